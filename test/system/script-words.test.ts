/** The scripts of package.json as a person asks them for their options, and with an option they do not have: nothing is begun. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { repository } from '../support/guest-kernel.js';
import { makeScratch } from '../support/scratch.js';
import { leftoversAfter, MARKER } from '../support/leftovers.js';

describe.each([
  ['bench', '--rounds N .*\\(default: 5\\)'],
  ['crash', '--kills N .*\\(default: 100\\)'],
  ['demo', '--no-powershell .*'],
  ['test', 'suite .*system, fault, powershell'],
] as const)('%s', (name, option) => {
  async function run(...words: string[]) {
    await using scratch = await makeScratch('words');
    const env = { ...process.env, [MARKER]: scratch.path, TMPDIR: scratch.path };
    const ended = await new Promise<{ code: unknown; out: string; said: string }>((resolve) => {
      execFile(process.execPath, [join(repository, `dist/scripts/${name}.js`), ...words], { env }, (error, out, said) =>
        resolve({ code: error?.code ?? 0, out, said }),
      );
    });
    expect(await leftoversAfter({ id: scratch.path, folder: scratch.path })).toEqual([]);
    return ended;
  }

  it('says on standard output what it takes', async () => {
    const { code, out, said } = await run('--help');
    expect({ code, said }).toEqual({ code: 0, said: '' });
    expect(out).toMatch(new RegExp(`^npm (run )?${name} -- [^]*\n  ${option}[^]*\n  --help +says this\n\nExit code: 0 [^]*\n$`));
  });

  it('refuses in one line what it does not take', async () => {
    const { code, out, said } = await run('--nothing');
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(said).toMatch(new RegExp(`^${name}: there is no --nothing; there are .*--help; --help says more\n$`));
  });
});
