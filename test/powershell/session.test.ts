/** PwshSession: values are never code, and a script that misbehaves is an error and not a wrong answer. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PwshSession } from '../../src/powershell/session.js';
import { openSession, pwshOrUndefined } from '../support/pwsh.js';
import { requires } from '../support/requires.js';

describe.skipIf(!requires('PowerShell 7.6', await pwshOrUndefined()))('PwshSession', () => {
  let session: PwshSession;
  beforeAll(async () => {
    session = await openSession();
  }, 120_000);
  afterAll(() => session?.[Symbol.asyncDispose]());

  it.each([
    "a'b",
    'a"b',
    `a"b'; whoami; '`,
    '$(Write-Output PWNED)',
    '`$x',
    '‘typographic’ “quotes” ‚‛',
    '$env:HOME',
    '; exit 3',
    'line\nbreak\r\n\ttab',
    '日本語 🐘',
    '@{a=1}',
    '',
    '-Name',
    '--',
    '%',
    '\u0000zero',
    "'@\n$(1)\n'@",
    '\\',
    '2026-11-23T12:34:56Z',
    '18446744073709551615',
    ' padded ',
  ])('the text %j arrives as it is', async (text) => {
    const { output, errors } = await session.invoke('param($text) ,$text', { text });
    expect(errors).toEqual([]);
    expect(output).toEqual([text]);
  });

  it('structures arrive with their types', async () => {
    const value = { url: 'http://h:80/a,b', yes: true, nothing: null, list: [1, 2, [3]], deep: { a: { b: 'c' } } };
    const { output } = await session.invoke('param($value) $value', { value }, { depth: 8 });
    expect(output).toEqual([value]);
  });

  it('every stream is kept apart', async () => {
    const result = await session.invoke(
      '1; Write-Error e; Write-Warning w; Write-Verbose v -Verbose; Write-Information i; Write-Host h; $DebugPreference = "Continue"; Write-Debug d; [Console]::WriteLine("noise"); [Console]::Error.WriteLine("noise"); 2',
    );
    expect(result).toMatchObject({
      output: [1, 2],
      warnings: ['w'],
      verbose: ['v'],
      information: ['i', 'h'],
      debug: ['d'],
      terminated: false,
    });
    expect(result.errors.map((error) => error.message)).toEqual(['e']);
  });

  it('a throw is an error of a terminated script', async () => {
    const result = await session.invoke('1; throw "no"; 2');
    expect(result).toMatchObject({ output: [1], terminated: true });
    expect(result.errors.map((error) => error.message)).toEqual(['no']);
  });

  it('a script that does not parse is an error and leaves the session sound', async () => {
    const result = await session.invoke('$x = 5 +');
    expect(result.terminated).toBe(true);
    expect((await session.invoke('1')).output).toEqual([1]);
  });

  it.each(['if ($true) {\n\n  1\n}', '@"\na\n\nb\n"@', '# comment\n1'])('several lines are one script: %j', async (script) => {
    const { errors, output } = await session.invoke(script);
    expect(errors).toEqual([]);
    expect(output).toHaveLength(1);
  });

  it('an empty answer, one value and a list are told apart', async () => {
    expect((await session.invoke('')).output).toEqual([]);
    expect((await session.invoke('1')).output).toEqual([1]);
    expect((await session.invoke('1, 2')).output).toEqual([1, 2]);
  });

  it('calls run one after the other, in order', async () => {
    const answers = await Promise.all([1, 2, 3].map((n) => session.invoke('param($n) $n', { n })));
    expect(answers.map((answer) => answer.output)).toEqual([[1], [2], [3]]);
  });

  it('a megabyte comes back whole', async () => {
    const { output } = await session.invoke<string>("'x' * 1MB");
    expect(output[0]).toHaveLength(1 << 20);
  });

  it('`exit` in a script is an error, and the session says that it is over', async () => {
    await using own = await openSession();
    await expect(own.invoke('exit 0')).rejects.toThrow('ended PowerShell');
    await expect(own.invoke('1')).rejects.toThrow('session is over');
  }, 60_000);

  it('a script that overruns its time is killed with its process', async () => {
    await using own = await openSession();
    const { pid } = own;
    await expect(own.invoke('Start-Sleep 60', {}, { timeoutMs: 300 })).rejects.toThrow('did not end within 300 ms');
    await expect(own.invoke('1')).rejects.toThrow('session is over');
    await own[Symbol.asyncDispose]();
    expect(() => process.kill(pid!, 0)).toThrow('ESRCH');
  }, 60_000);

  it('a process that dies in mid-call is an error', async () => {
    await using own = await openSession();
    const call = own.invoke('Start-Sleep 60');
    process.kill(own.pid!, 'SIGKILL');
    await expect(call).rejects.toThrow('PowerShell');
  }, 60_000);

  it('an executable that is not there is a rejection, not the end of this process', async () => {
    await expect(PwshSession.start({ executable: '/nonexistent/pwsh' })).rejects.toThrow(/PowerShell/);
  });
});
