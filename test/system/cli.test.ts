/** The command as a process: what goes to which stream, exit codes, one JSON document, Ctrl+C, and starting the host. */
import { execFile, spawn } from 'node:child_process';
import { access, mkdtemp, readdir, symlink } from 'node:fs/promises';
import { constants, existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { checkoutFolder } from '../../src/powershell/checkout.js';
import { vm } from '../support/objects.js';
import { lacks } from '../support/requires.js';
import { ScriptedHost } from '../support/scripted-host.js';

const main = join(checkoutFolder(), 'dist', 'src', 'cli', 'main.js');

interface Ran {
  code: number | null;
  stdout: string;
  stderr: string;
}

describe('vmstorage', () => {
  let host: ScriptedHost;
  beforeAll(async () => {
    await access(main); // missing: run `npx tsc -p .` first
  });
  beforeEach(async () => {
    host = await ScriptedHost.listen();
  });
  afterEach(() => host[Symbol.asyncDispose]());

  function vmstorage(words: readonly string[], environment: NodeJS.ProcessEnv = host.environment): Promise<Ran> {
    return new Promise((resolve) => {
      const child = execFile(
        process.execPath,
        [main, ...words],
        { env: { PATH: process.env['PATH'], ...environment } },
        (_error, stdout, stderr) => resolve({ code: child.exitCode, stdout, stderr }),
      );
      child.stdin?.end();
    });
  }

  it('npx may execute it, which npm sees to only where it never did before', async () => {
    await expect(access(main, constants.X_OK)).resolves.toBeUndefined();
  });

  it('--help lists the cmdlets, and -? of one shows its syntax', async () => {
    await expect((await vmstorage(['--help'])).stdout).toMatchFileSnapshot('../golden/cli/help.txt');
    await expect((await vmstorage(['move-vmstorage', '-?'])).stdout).toMatchFileSnapshot('../golden/cli/move-vmstorage-help.txt');
  });

  it.each([
    [['Start-VM', 'x', '-h'], /Starts a virtual machine/],
    [['Start-VM', '-H'], /Starts a virtual machine/],
    [['Set-VM', 'x', '-?'], /Changes a virtual machine/],
    [['host', 'stop', '-h'], /Starts, stops, shows or runs/],
    [['serve', '-h'], /Serves a disk file/],
    [['-h'], /<cmdlet> \[parameters\]/],
  ])('%j is help, and nothing is done', async (words, says) => {
    const ran = await vmstorage(words);
    expect(ran).toMatchObject({ code: 0, stderr: '', stdout: expect.stringMatching(says) });
    expect(host.heard).toEqual([]);
  });

  it('several tables in one -Vhds arrive as several', async () => {
    const pair = (from: string, to: string) => `@{SourceFilePath='${from}'; DestinationFilePath="${to}"}`;
    expect(await vmstorage(['Move-VMStorage', 'x', '-Vhds', `@(${pair('/c/d', '/1/d')}, ${pair('/d/d', '/2/d')})`])).toMatchObject({
      code: 0,
    });
    expect(host.heard[0]?.bound['Vhds']).toEqual([
      { SourceFilePath: '/c/d', DestinationFilePath: '/1/d' },
      { SourceFilePath: '/d/d', DestinationFilePath: '/2/d' },
    ]);
  });

  it('a query prints its table on stdout and nothing else', async () => {
    host.scripts['Get-VM'] = (call) => call.output(vm());
    const ran = await vmstorage(['get-vm', 'web01']);
    expect(ran.code).toBe(0);
    expect(ran.stderr).toBe('');
    expect(ran.stdout).toMatch(/^Name\s+State/);
    expect(host.heard[0]).toMatchObject({ cmdlet: 'Get-VM', parameterSet: 'Name', bound: { Name: ['web01'] } });
  });

  it('--json is one document, errors and last progress included, and the exit code is the error’s', async () => {
    host.scripts['Move-VMStorage'] = async (call) => {
      await call.ask('Move it?');
      await call.progress({ id: 1, activity: 'Moving', status: 'copy', percent: 3, data: { phase: 'copy' } });
      await call.text('warning', 'w');
      await call.error({ message: 'full', code: 'NoSpace', errorId: 'NoSpace', category: 'ResourceUnavailable' });
    };
    const ran = await vmstorage(['Move-VMStorage', 'web01', '/x', '--json']);
    expect(ran.code).toBe(7);
    expect(ran.stderr).toBe('');
    expect(JSON.parse(ran.stdout)).toEqual({
      ok: false,
      output: [],
      warnings: ['w'],
      verbose: [],
      whatIf: [],
      errors: [
        { message: 'full', code: 'NoSpace', errorId: 'NoSpace', category: 'ResourceUnavailable', target: null, recommendedAction: null },
      ],
      progress: { k: 'progress', id: 1, activity: 'Moving', status: 'copy', percent: 3, data: { phase: 'copy' } },
    });
  });

  it('warnings, progress and errors go to stderr', async () => {
    host.scripts['Move-VMStorage'] = async (call) => {
      await call.progress({ id: 1, activity: 'Moving', status: 'copy', percent: 3 });
      await call.text('warning', 'w');
      await call.error({ message: 'full', code: 'NoSpace', errorId: 'NoSpace', category: 'x', recommendedAction: 'Free some.' });
    };
    const ran = await vmstorage(['Move-VMStorage', 'web01', '/x']);
    expect(ran.stdout).toBe('');
    expect(ran.stderr.split('\n')).toEqual(['Moving: 3 % copy', 'WARNING: w', 'Move-VMStorage: full Free some.', '']);
  });

  it('-WhatIf says and declines', async () => {
    let answer: boolean | undefined;
    host.scripts['Move-VMStorage'] = async (call) => void (answer = await call.ask('Move-VMStorage will move "web01".'));
    const ran = await vmstorage(['Move-VMStorage', 'web01', '/x', '-WhatIf']);
    expect(ran).toMatchObject({ code: 0, stdout: 'What if: Move-VMStorage will move "web01".\n' });
    expect(answer).toBe(false);
  });

  it('what must be confirmed is refused when nobody can be asked', async () => {
    let done = false;
    host.scripts['Remove-VM'] = async (call) => void (done = await call.ask('Remove "web01"?', 'shouldContinue'));
    const ran = await vmstorage(['Remove-VM', 'web01']);
    expect(ran.code).toBe(4);
    expect(ran.stderr).toContain('-Force');
    expect(done).toBe(false);
  });

  it.skipIf(lacks('script')).each([
    ['n', 'n\r', 0],
    ['Ctrl+C', '\u0003', 13],
    ['Ctrl+D', '\u0004', 13],
  ])('%s at a question is a no', async (_, keys, wanted) => {
    let answer: boolean | undefined;
    host.scripts['Move-VMStorage'] = async (call) => void (answer = await call.ask('Move it?'));
    const words = [process.execPath, main, 'Move-VMStorage', 'web01', '/x', '-Confirm'];
    const child = spawn('script', ['-qec', words.join(' '), '/dev/null'], { env: { ...process.env, ...host.environment } });
    let screen = '';
    child.stdout.on('data', (chunk: Buffer) => {
      if (!screen.includes('[Y]') && (screen + chunk.toString()).includes('[Y]')) child.stdin.write(keys);
      screen += chunk.toString();
    });
    expect(await new Promise((resolve) => child.once('close', resolve))).toBe(wanted);
    if (wanted !== 0) expect(screen).toContain('it was not done');
    expect(answer ?? false).toBe(false);
  });

  it.each([
    [['Move-VMStorage', 'web01'], 2, 'needs -DestinationStoragePath'],
    [['Get-VMM'], 2, 'Get-VM'],
    [[], 2, 'vmstorage --help'],
    [['host', 'dance'], 2, 'dance'],
    [['Get-VM', '-Name'], 2, /^Get-VM: -Name needs a value/],
    [['Start-VM', 'x', '-nonsense'], 2, /^Start-VM has no parameter -nonsense/],
    [['Start-VM', 'x', '--no.such'], 2, /^Start-VM has no parameter --no.such/],
    [['--nonsense', 'Start-VM', 'x'], 2, /Unknown arguments: nonsense, x/],
    [['host', 'status', '--nonsense'], 2, /Unknown argument: nonsense/],
    [['host', 'stop-guests', '--limit', 'soon'], 2, /--limit takes whole seconds from 1 to 3600, not 'soon'/],
    [['serve', 'D:\\disk.vhdx', '--nbd', '/tmp/never.sock'], 9, /The image 'D:\\disk\.vhdx' is a Windows path/],
    [['host', 'stop', '--limit', '5'], 2, /--limit is of 'host stop-guests' alone/],
    [['Move-VMStorage', 'x', '-Vhds', "@{SourceFilePath='/a';SourceFilePath='/b'}"], 2, /given twice/],
    [['Move-VMStorage', 'x', '-DestinationStoragePath', '-WhatIf'], 2, /looks like a parameter/],
  ])('%j exits with %i and says why', async (words, code, why) => {
    const ran = await vmstorage(words);
    expect(ran.code).toBe(code);
    expect(ran.stderr).toMatch(why);
    expect(host.heard).toEqual([]);
  });

  it('output that cannot be written is an error, and one that nobody reads to its end is none', async () => {
    host.scripts['Get-VM'] = (call) => call.output(vm());
    const shell = (script: string): Promise<Ran> =>
      new Promise((resolve) => {
        const child = execFile(
          '/bin/bash',
          ['--norc', '-c', `set -o pipefail; ${script}`, process.execPath, main],
          { env: { PATH: process.env['PATH'], ...host.environment } },
          (_error, stdout, stderr) => resolve({ code: child.exitCode, stdout, stderr }),
        );
      });
    const full = await shell('"$0" "$1" Get-VM --json > /dev/full');
    expect(full).toMatchObject({ code: 14, stderr: expect.stringContaining('ENOSPC') });
    expect(await shell('"$0" "$1" Get-VM --json | :')).toMatchObject({ code: 0, stderr: '' });
  });

  it('no host is exit code 17 when it must not be started', async () => {
    const ran = await vmstorage(['Get-VM'], { VMSTORAGE_HOME: host.folder + '/nowhere', VMSTORAGE_NOSTART: '1' });
    expect(ran.code).toBe(17);
    expect(ran.stderr).toContain('vmstorage host start');
  });

  it.each([
    ['a file', (folder: string) => main + '/' + basename(folder), /not a directory/],
    ['a relative path', (folder: string) => basename(folder), /not absolute/],
  ])('%s for a home is exit code 17, says so, and leaves nothing behind', async (_, home, why) => {
    const ran = await vmstorage(['Get-VM'], { VMSTORAGE_HOME: home(host.folder) });
    expect(ran.code).toBe(17);
    expect(ran.stderr).toMatch(why);
    expect(ran.stderr).toContain('Set VMSTORAGE_HOME');
    expect(existsSync(basename(host.folder))).toBe(false);
  });

  it('Ctrl+C sends stop and waits for the answer; its exit code is that of the error', async () => {
    host.scripts['Move-VMStorage'] = async (call) => {
      await call.stopped;
      await call.error({ message: 'It was stopped.', code: 'OperationStopped', errorId: 'OperationStopped', category: 'OperationStopped' });
    };
    const child = spawn(process.execPath, [main, 'Move-VMStorage', 'web01', '/x'], {
      env: { ...process.env, ...host.environment },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    await host.until(() => host.messages.some((message) => message.k === 'process'));
    child.kill('SIGINT');
    const code = await new Promise((resolve) => child.once('close', resolve));
    expect(code).toBe(13);
    expect(stderr).toContain('It was stopped.');
    expect(host.messages.filter((message) => message.k === 'stop')).toHaveLength(1);
  });

  it('Ctrl+C on a query just leaves', async () => {
    host.scripts['Get-VM'] = (call) => call.closed;
    const child = spawn(process.execPath, [main, 'Get-VM'], { env: { ...process.env, ...host.environment }, stdio: 'ignore' });
    await host.until(() => host.messages.some((message) => message.k === 'process'));
    child.kill('SIGINT');
    expect(await new Promise((resolve) => child.once('close', resolve))).toBe(130);
    expect(host.messages.map((message) => message.k)).not.toContain('stop');
  });

  it.each([
    [['move'], ['Move-VMStorage']],
    [['Get-VM', 'web'], ['web01']],
    [['Get-VM', ''], ['web01']],
    [['Move-VMStorage', '-VMName', 'w'], ['web01']],
    [['Move-VMStorage', 'web01', '-dest'], ['-DestinationStoragePath']],
    [['Start-VM', 'web01', '-P'], ['-Passthru']],
    [['Add-VMHardDiskDrive', 'web01', '-ControllerType', 's'], ['SCSI']],
    [
      ['Set-VM', 'web01', '-AutomaticStopAction', ''],
      ['TurnOff', 'Save', 'ShutDown'],
    ],
    // Files are the shell's to offer.
    [['Move-VMStorage', 'web01', ''], []],
    [['Move-VMStorage', 'web01', '-DestinationStoragePath', 'sl'], []],
    [['New-VHD', ''], []],
    [['serve', 'sl'], []],
  ])('Tab after %j offers %j and says nothing else', async (words, offered) => {
    host.options = { complete: () => [{ text: 'web01', tip: '' }] };
    const { code, stdout, stderr } = await vmstorage(['--get-yargs-completions', 'vmstorage', ...words]);
    expect({ code, stderr, offered: stdout.split('\n').filter((line) => line !== '') }).toEqual({ code: 0, stderr: '', offered });
  });

  it.each(['--json=true', '-Json:$true', '--JS'])('%s is --json', async (word) => {
    host.scripts['Get-VM'] = (call) => call.output(vm());
    expect(JSON.parse((await vmstorage(['Get-VM', word])).stdout)).toMatchObject({ ok: true });
  });

  it('host stop-guests asks the host, tells each guest as it ends, and its exit code is that of the first that could not be stopped', async () => {
    host.scripts['host stop-guests'] = async (call) => {
      await call.text('information', 'The virtual machine "a" was shut down.');
      await call.error({ message: 'b does not end', code: 'HypervisorFailure' });
    };
    expect(await vmstorage(['host', 'stop-guests', '--limit', '5'])).toEqual({
      code: 16,
      stdout: 'The virtual machine "a" was shut down.\n',
      stderr: 'vmstorage: b does not end\n',
    });
    expect(host.heard.at(-1)).toMatchObject({ cmdlet: 'host stop-guests', bound: { limitSeconds: 5 } });
    expect(await vmstorage(['host', 'start-guests'])).toMatchObject({ code: 0, stdout: '' });
    expect(host.heard.at(-1)).toMatchObject({ cmdlet: 'host start-guests', bound: {} });
  });

  it('host start-guests waits for the host that its unit was started with, and starts none itself', async () => {
    const home = await mkdtemp(join(host.folder, 'h-'));
    const asked = vmstorage(['host', 'start-guests'], { VMSTORAGE_HOME: home });
    const isAnswered = await Promise.race([asked.then(() => true), new Promise((resolve) => setTimeout(() => resolve(false), 500))]);
    expect(isAnswered).toBe(false);
    expect(await readdir(home)).toEqual([]);
    await symlink(host.address, join(home, 'host.sock'));
    expect(await asked).toMatchObject({ code: 0, stderr: '' });
    expect(host.heard.at(-1)).toMatchObject({ cmdlet: 'host start-guests' });
  });

  it('host status shows a running one', async () => {
    const ran = await vmstorage(['host', 'status', '--json']);
    expect(JSON.parse(ran.stdout)).toEqual({ ok: true, pid: process.pid, version: '9.9.9', address: host.address });
    const away = await vmstorage(['host', 'status', '--json'], { VMSTORAGE_HOME: host.folder + '/nowhere' });
    expect(away).toMatchObject({ code: 17, stderr: '' });
    expect(JSON.parse(away.stdout)).toMatchObject({ ok: false, error: { code: 'HostNotReachable' } });
    const none = await vmstorage(['host', 'stop'], { VMSTORAGE_HOME: host.folder + '/nowhere' });
    expect(none).toMatchObject({ code: 0 });
    expect(none.stdout).toContain('No VM storage host runs');
  });
});
