/** PowerShell's literals on the command line. That PowerShell reads them the same is for test/powershell/literals.test.ts to show. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { numberOf, parseInteger } from '../../../src/cli/literal/numbers.js';
import { parseLiteral, parseTexts, type Literal } from '../../../src/cli/literal/parse.js';
import { LiteralError } from '../../../src/cli/literal/tokens.js';
import { literal, spelled } from '../../support/literals.js';

const table = (entries: { [key: string]: Literal }) => new Map(Object.entries(entries));

describe('a literal', () => {
  it.each<[string, Literal]>([
    ['@{a=\'x\';b="y"}', table({ a: 'x', b: 'y' })],
    ["@{ a = 'x' }, @{ b = 'y' }", [table({ a: 'x' }), table({ b: 'y' })]],
    ["@(@{a='x'}\n@{b='y'};@{c='z'})", [table({ a: 'x' }), table({ b: 'y' }), table({ c: 'z' })]],
    ["(@{a='x'}),\n(@{b='y'})", [table({ a: 'x' }), table({ b: 'y' })]],
    ["@{'a b'='x'\n\"c\"=\n'y';;}", table({ 'a b': 'x', c: 'y' })],
    ["@{a='it''s; , } = @{'}", table({ a: "it's; , } = @{" })],
    ['@{a="say ""hi"" `"there`" `$5 $ 5"}', table({ a: 'say "hi" "there" $5 $ 5' })],
    ['"a`tb`u{1f600}"', 'a\tb😀'],
    ['@{a=‘x’;b=“y”}', table({ a: 'x', b: 'y' })],
    ['@{a=$TRUE;b=$false;c=$null;d=40GB;e=1.5;f=-3}', table({ a: true, b: false, c: null, d: 42949672960n, e: 1.5, f: -3n })],
    ['@{a=/srv/x.vhdx;b=word}', table({ a: '/srv/x.vhdx', b: 'word' })],
    ["@{a=1,2;b=@('x')}", table({ a: [1n, 2n], b: ['x'] })],
    ["@{a='x'} # as it was\n<# and\nmore #>", table({ a: 'x' })],
    ['@()', []],
    ['@{}', table({})],
    ["'a','b'", ['a', 'b']],
  ])('%s', (text, value) => {
    expect(parseLiteral(text)).toEqual(value);
  });

  it.each([
    ["@{a='x';A='y'}", "the key 'A' is given twice"],
    ["@{a='x'", "'}' is missing at the end"],
    ["@('x'", "')' is missing at the end"],
    ["@{a='x'},", 'a value is missing at the end'],
    ["@{a='x'}@{b='y'}", "'@{' is not expected"],
    ["@{a='x' b='y'}", "'b' is not expected"],
    ["@{a='x}", 'the closing quote is missing'],
    ["@{a='x'y}", 'something follows the closing quote'],
    ['@{a}', "'=' is missing behind the key 'a'"],
    ['@{a.b=1}', "the key 'a.b' must be a name, or stand in quotes"],
    ['@{a=$HOME}', "'$HOME' has no value here"],
    ['@{a="$HOME/x"}', 'a variable in "double quotes" has no value here'],
    ['@{a="$(rm x)"}', 'a variable in "double quotes" has no value here'],
    ['@{a=$(rm x)}', "'(' cannot stand here"],
    ['@{a=& rm}', "'&' has no value here"],
    ["[ordered]@{a='x'}", "'{' cannot stand here"],
    ["@'\nx\n'@", 'a here-string is not taken'],
    ['', 'a value is missing at the end'],
    ['@('.repeat(20), 'nested too deep'],
  ])('%s is refused: %s', (text, why) => {
    expect(() => parseLiteral(text)).toThrow(expect.objectContaining({ name: 'LiteralError', message: expect.stringContaining(why) }));
  });

  it('of any shape and any text comes back from its spelling', () => {
    fc.assert(
      fc.property(literal, (value) => {
        expect(parseLiteral(spelled(value))).toEqual(value);
      }),
    );
  });

  it('is refused with a place in the text, whatever the text: nothing else is ever thrown', () => {
    const text = fc.oneof(fc.string(), fc.stringMatching(/^[@{}(),;='"` $a-c0-9kb\n#<>.-]{0,40}$/));
    fc.assert(
      fc.property(text, (given) => {
        try {
          parseLiteral(given);
        } catch (error) {
          expect(error).toBeInstanceOf(LiteralError);
          expect((error as LiteralError).at).toBeLessThanOrEqual(given.length);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe('a list of texts', () => {
  it.each([
    ['web01,web02', ['web01', 'web02']],
    ["'a,b', c", ['a,b', 'c']],
    ["@('a'; 'b')", ['a', 'b']],
    ['01,1e3,$true', ['01', '1e3', '$true']],
    ['web*,db[1-3]', ['web*', 'db[1-3]']],
  ])('%s', (text, list) => {
    expect(parseTexts(text)).toEqual(list);
  });
});

describe('a number', () => {
  it.each([
    ['1.5GB', 1610612736n],
    ['0x10', 16n],
    ['0x10KB', 16384n],
    ['0xFFFFFFFF', -1n],
    ['0xFFFFFFFFu', 4294967295n],
    ['0x1FFFFFFFF', 8589934591n],
    ['-3', -3n],
    ['1e3', 1000n],
    ['.5KB', 512n],
    ['4L', 4n],
    ['2ulkb', 2048n],
    ['64TB', 70368744177664n],
    ['010', 10n],
    ['', undefined],
    ['1.1', undefined],
    ['1 GB', undefined],
    ['GB', undefined],
    ['1e', undefined],
    ['9'.repeat(40), undefined],
    ['1KB', 1024n],
  ])('%s is %s', (text, value) => {
    expect(parseInteger(text)).toBe(value);
  });

  it('that is not whole is one all the same, but no integer', () => expect(numberOf('1.1')).toBe(1.1));
});
