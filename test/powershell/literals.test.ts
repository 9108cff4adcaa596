/** What the command line reads as PowerShell's literals (src/cli/literal), PowerShell reads the same. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LiteralError } from '../../src/cli/literal/tokens.js';
import { numberOf } from '../../src/cli/literal/numbers.js';
import { parseLiteral, type Literal } from '../../src/cli/literal/parse.js';
import { literal, spelled } from '../support/literals.js';
import { pwshOrUndefined } from '../support/pwsh.js';
import { requires } from '../support/requires.js';
import { scriptedShell } from '../support/scripted-shell.js';

/** Read by PowerShell's own parser and never run; numbers as text, so that none is rounded on the way. */
const read = `param($texts)
  function Plain($value) {
    if ($null -eq $value) { return $null }
    if ($value -is [string] -or $value -is [bool]) { return $value }
    if ($value -is [Collections.IDictionary]) { $table = [ordered]@{}; foreach ($key in $value.Keys) { $table["$key"] = Plain $value[$key] }; return $table }
    if ($value -is [array]) { return ,@(foreach ($one in $value) { ,(Plain $one) }) }
    return "number " + ([decimal]$value).ToString([cultureinfo]::InvariantCulture)
  }
  foreach ($text in $texts) {
    $wrong = $null; $tokens = $null
    $ast = [Management.Automation.Language.Parser]::ParseInput($text, [ref]$tokens, [ref]$wrong)
    if ($wrong) { 'refused'; continue }
    try { ConvertTo-Json -Compress -Depth 9 -InputObject (Plain $ast.EndBlock.Statements[0].PipelineElements[0].Expression.SafeGetValue()) } catch { 'refused' }
  }`;

const same = (value: Literal): unknown =>
  typeof value === 'bigint' || typeof value === 'number'
    ? `number ${value}`
    : value instanceof Map
      ? Object.fromEntries([...value].map(([key, one]: [string, Literal]) => [key, same(one)]))
      : Array.isArray(value)
        ? (value as readonly Literal[]).map(same)
        : value;

describe.skipIf(!requires('PowerShell 7.6', await pwshOrUndefined()))('PowerShell reads', () => {
  const shell = scriptedShell();
  async function byPowerShell(texts: readonly string[]): Promise<unknown[]> {
    const { output, errors } = await shell.session.invoke<string>(read, { texts: [...texts] });
    expect(errors).toEqual([]);
    return output.map((line) => (line === 'refused' ? line : (JSON.parse(line) as unknown)));
  }

  it('what is written by hand', async () => {
    const texts = [
      '@{a=\'x\';b="y"}',
      "@{ a = 'x' }, @{ b = 'y' }",
      "@(@{a='x'}\n@{b='y'};@{c='z'})",
      "(@{a='x'}),\n(@{b='y'})",
      "@{'a b'='x'\n\"c\"=\n'y';;}",
      '@{a="say ""hi"" `"there`" `$5 $ 5"}',
      '"a`tb`u{1f600}`q"',
      '@{a=‘x’;b=“y”}',
      '@{a=$TRUE;b=$false;c=$null;d=40GB;f=-3}',
      "@{a=1,2;b=@('x')}",
      "@{a='x'} # as it was\n<# and\nmore #>",
      "'a',\n'b'",
      "@{a='it''s'}",
    ];
    expect(await byPowerShell(texts)).toEqual(texts.map((text) => same(parseLiteral(text))));
  });

  it('numbers', async () => {
    const texts = [
      '1.5GB',
      '0x10',
      '0x10KB',
      '0xFFFFFFFF',
      '0xFFFFFFFFu',
      '0x1FFFFFFFF',
      '0xFFFFFFFFFFFFFFFF',
      '-3',
      '+3',
      '1e3',
      '1.5e1',
      '.5KB',
      '4L',
      '2ulkb',
      '64TB',
      '010',
      '1pb',
      '-0x10',
    ];
    expect(await byPowerShell(texts)).toEqual(texts.map((text) => `number ${numberOf(text)}`));
  });

  it('nothing of what is refused here as well', async () => {
    const texts = [
      "@{a='x';A='y'}",
      "@{a='x'",
      "@{a='x'},",
      "@{a='x'}@{b='y'}",
      "@{a='x' b='y'}",
      "@{a='x}",
      '@{a.b=1}',
      '@{;a=1}',
      '@{a="$HOME"}',
      "'a',",
    ];
    for (const text of texts) expect(() => parseLiteral(text), text).toThrow(LiteralError);
    expect(await byPowerShell(texts)).toEqual(texts.map(() => 'refused'));
  });

  it('any literal of any shape', async () => {
    const values = fc.sample(literal, 300);
    expect(await byPowerShell(values.map(spelled))).toEqual(values.map(same));
  });
});
