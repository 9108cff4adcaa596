/** What ends a call early: Ctrl+C on a change sends `stop` and waits for the answer; a query is closed; a client that goes just goes. */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pwshEnvironment } from '../../src/powershell/find-pwsh.js';
import { vm } from '../support/objects.js';
import { moduleEnvironment, pwshOrUndefined } from '../support/pwsh.js';
import { requires } from '../support/requires.js';
import { scriptedShell } from '../support/scripted-shell.js';

const pwsh = await pwshOrUndefined();

describe.skipIf(!requires('PowerShell 7.6', pwsh))('stopping', () => {
  const shell = scriptedShell();
  let folder: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'vms-stop-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  const kinds = (): string[] => shell.host.messages.map((message) => message.k);

  /** A pwsh of its own that runs a script file; Ctrl+C is a SIGINT to it. */
  async function run(
    script: string,
  ): Promise<{ child: ChildProcess; ended: Promise<{ code: number | null; stdout: string; stderr: string }> }> {
    const file = join(folder, 'script.ps1');
    await writeFile(file, script);
    const child = spawn(pwsh!.path, ['-NoLogo', '-NoProfile', '-NonInteractive', '-File', file], {
      env: pwshEnvironment(await moduleEnvironment(shell.host)),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout!.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr!.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    return { child, ended: new Promise((resolve) => child.once('close', (code) => resolve({ code, stdout, stderr }))) };
  }

  it('Ctrl+C on a move sends stop and waits for what became of it', async () => {
    const order: string[] = [];
    shell.host.scripts = {
      'Move-VMStorage': async (call) => {
        await call.ask('Move-VMStorage will move web01.');
        await call.progress({ id: 1, activity: 'Moving', status: 'copy', percent: 10 });
        await call.stopped;
        order.push('stopped');
        await call.text('warning', 'The move of web01 was stopped; it stays on its source.');
        await call.error({
          message: 'The operation was stopped.',
          code: 'OperationStopped',
          errorId: 'OperationStopped',
          category: 'OperationStopped',
        });
        order.push('answered');
        void call.closed.then(() => order.push('closed'));
      },
    };
    const { child, ended } = await run("Move-VMStorage web01 /x; 'went on'");
    await shell.host.until(() => kinds().includes('reply'));
    child.kill('SIGINT');
    const { stdout } = await ended;
    await shell.host.until(() => shell.host.open === 0);
    expect(kinds().filter((kind) => kind === 'stop')).toHaveLength(1);
    expect(order).toEqual(['stopped', 'answered', 'closed']);
    expect(stdout).not.toContain('went on');
    expect(stdout).toContain('it stays on its source');
    expect(stdout).not.toContain('did not answer');
  }, 60_000);

  it('Ctrl+C on a query closes the connection and sends nothing', async () => {
    shell.host.scripts = { 'Get-VM': (call) => call.closed };
    const { child, ended } = await run('Get-VM');
    await shell.host.until(() => kinds().includes('process'));
    child.kill('SIGINT');
    await ended;
    await shell.host.until(() => shell.host.open === 0);
    expect(kinds()).not.toContain('stop');
  }, 60_000);

  it('a shell that is killed sends no stop: the move goes on', async () => {
    shell.host.scripts = { 'Move-VMStorage': (call) => call.closed };
    const { child, ended } = await run('Move-VMStorage web01 /x');
    await shell.host.until(() => kinds().includes('process'));
    child.kill('SIGKILL');
    await ended;
    await shell.host.until(() => shell.host.open === 0);
    expect(kinds()).not.toContain('stop');
  }, 60_000);

  it('Select-Object -First closes at once', async () => {
    shell.host.scripts = {
      'Get-VM': async (call) => {
        for (let n = 0; n < 3; n++) await call.output(vm({ Name: `web${n}` }));
        await call.closed;
      },
    };
    const { output, errors } = await shell.session.invoke<{ Name: string }>('Get-VM | Select-Object -First 2');
    expect(output.map((one) => one.Name)).toEqual(['web0', 'web1']);
    expect(errors).toEqual([]);
    await shell.host.until(() => shell.host.open === 0);
    expect(kinds()).not.toContain('end');
  });

  it.each([
    ['throw downstream', 'try { Get-VM | ForEach-Object { throw "x" } } catch { }'],
    ['break downstream', 'foreach ($i in 1) { Get-VM | ForEach-Object { break } }'],
    ['-ErrorAction Stop', 'try { Get-VM -ErrorAction Stop | Out-Null } catch { }'],
  ])('%s closes at once', async (_, script) => {
    shell.host.scripts = {
      'Get-VM': async (call) => {
        await call.output(vm());
        await call.error({ message: 'x' });
        await call.closed;
      },
    };
    await shell.session.invoke(script);
    await shell.host.until(() => shell.host.open === 0);
    expect(kinds()).not.toContain('end');
  });

  it('a stopped pipeline (BeginStop) of a move sends stop', async () => {
    shell.host.scripts = {
      'Stop-VM': async (call) => {
        await call.ask('Stop-VM will shut down web01.');
        await writeFile(join(folder, 'asked'), '');
        await call.stopped;
      },
    };
    const { output } = await shell.session.invoke<string>(
      `param($asked)
      $ps = [powershell]::Create().AddScript('Import-Module VMStorage; Stop-VM web01')
      $run = $ps.BeginInvoke()
      while (-not (Test-Path $asked)) { Start-Sleep -Milliseconds 10 }
      $ps.Stop()
      "$($ps.InvocationStateInfo.State)"`,
      { asked: join(folder, 'asked') },
    );
    expect(output).toEqual(['Stopped']);
    expect(kinds()).toContain('stop');
    await shell.host.until(() => shell.host.open === 0);
  }, 60_000);

  it('a host that does not answer a stop is left after the patience, and that is said', async () => {
    shell.host.scripts = { 'Move-VMStorage': (call) => call.closed };
    const { child, ended } = await run('Move-VMStorage web01 /x');
    await shell.host.until(() => kinds().includes('process'));
    const before = performance.now();
    child.kill('SIGINT');
    const { stdout } = await ended;
    const waitedMs = performance.now() - before;
    expect(kinds()).toContain('stop');
    // The reduced shell of the build machines ends itself 2 s after a Ctrl+C only when a second one comes; the complete one waits too.
    expect(waitedMs).toBeGreaterThan(9000);
    expect(waitedMs).toBeLessThan(25_000);
    expect(stdout).toContain('did not answer the request to stop within 10 s');
  }, 60_000);

  it('50 runspaces at once each have a connection of their own', async () => {
    shell.host.scripts = { 'Get-VM': (call) => call.output(vm({ Name: (call.bound['Name'] as string[])[0]! })) };
    const { output, errors } = await shell.session.invoke<string>(
      '1..50 | ForEach-Object -ThrottleLimit 8 -Parallel { Import-Module VMStorage; (Get-VM "web$_").Name }',
      {},
      { timeoutMs: 120_000 },
    );
    expect(errors).toEqual([]);
    expect([...output].sort()).toEqual(Array.from({ length: 50 }, (_, n) => `web${n + 1}`).sort());
  }, 150_000);
});
