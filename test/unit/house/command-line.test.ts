/** What `npm run demo`, bench, crash and test make of their words. */
import { describe, expect, it } from 'vitest';
import { CommandLine, UsageAsked, usage, WrongWord, type CommandText } from '../../../scripts/command-line.js';

const text: CommandText = {
  name: 'polish',
  says: 'Makes things shine',
  options: {
    times: { value: 'N', default: '3', says: 'how often' },
    'with-wax': { says: 'not only water' },
    only: { value: 'NAME', says: 'one thing' },
  },
  exit: '0 when it shines',
};
const read = (...words: string[]) => new CommandLine(text, words);
const said = (words: string[], how: CommandText = text): unknown => {
  try {
    return new CommandLine(how, words);
  } catch (error) {
    return error;
  }
};

describe("a script's command line", () => {
  it('gives what was given, else the default', () => {
    expect(read().whole('times', 1)).toBe(3);
    expect(read().value('only')).toBeNull();
    const line = read('--times=5', '--with-wax', '--only', 'a b');
    expect([line.whole('times', 1, 5), line.has('with-wax'), line.has('json'), line.value('only')]).toEqual([5, true, false, 'a b']);
  });

  it('is its own usage when --help is asked for, whatever else is wrong with it', () => {
    for (const words of [['--help'], ['-h'], ['-?'], ['--times', '0', '--help']]) {
      const asked = said(words);
      expect(asked).toBeInstanceOf(UsageAsked);
      expect((asked as Error).message).toBe(
        [
          'npm run polish -- [option ...]',
          '  Makes things shine.',
          '',
          '  --times N    how often (default: 3)',
          '  --with-wax   not only water',
          '  --only NAME  one thing',
          '  --help       says this',
          '',
          'Exit code: 0 when it shines.',
          '',
        ].join('\n'),
      );
    }
  });

  it.each([
    [['--time', '5'], /^polish: there is no --time; there are --times, --with-wax, --only, --help;/],
    [['-t', '5'], /there is no -t;/],
    [['--times'], /--times needs a value: --times N;/],
    [['--only='], /--only needs a value: --only NAME;/],
    [['--with-wax=much'], /--with-wax takes no value;/],
    [['shoes'], /"shoes" is no option; there are --times/],
    [['--', '--times'], /"--times" is no option/],
  ])('says in one line what %j asks for and what there is', (words, line) => {
    const wrong = said(words);
    expect(wrong).toBeInstanceOf(WrongWord);
    expect((wrong as Error).message).toMatch(line);
    expect((wrong as Error).message).not.toContain('\n');
  });

  it('takes whole numbers within their bounds and nothing that only looks like one', () => {
    for (const given of ['0', '6', '1.5', '-1', 'x', ' ', '0x', '1e99']) {
      expect(() => read('--times', given).whole('times', 1, 5), given).toThrow(/: a whole number from 1 to 5;/);
    }
    expect(() => read('--times', '0').whole('times', 1)).toThrow(/a whole number from 1;/);
  });

  it('takes words where a script has some, and lists them', () => {
    const suites: CommandText = { ...text, name: 'test', options: {}, words: { name: 'suite', says: 'unit, system' } };
    expect(new CommandLine(suites, ['unit', 'x']).words).toEqual(['unit', 'x']);
    expect((said(['--unit'], suites) as Error).message).toMatch(/there is no --unit; there are unit, system, --help/);
    expect(usage(suites)).toMatch(/^npm test -- \[suite \.\.\.\]\n[^]*\n {2}suite {3}unit, system\n {2}--help {2}says this\n/);
  });
});
