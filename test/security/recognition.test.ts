/** Whom the host and its clients take for one of their own: what an ordinary user puts in their way is neither believed, waited for nor ended. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { createHash } from 'node:crypto';
import { PwshSession } from '../../src/powershell/session.js';
import { systemProcesses } from '../../src/os/processes.js';
import { repository } from '../support/guest-kernel.js';
import { Instance } from '../support/instance.js';
import { memoryFolder } from '../support/memory-folder.js';
import { lacksOrdinaryUser, OrdinaryUser } from '../support/ordinary-user.js';
import { moduleEnvironment, pwshOrUndefined } from '../support/pwsh.js';
import { requires } from '../support/requires.js';
import { makeScratch } from '../support/scratch.js';
import { until } from '../support/until.js';

vi.setConfig({ testTimeout: 90_000 });

const MB = 2 ** 20;
const SLEEPS = '$SIG{ALRM} = sub { exit }; alarm 120; $| = 1; print "there\\n"; sleep 120';

interface Ended {
  readonly code: number;
  readonly output: string;
}

/** The command line, as root types it. */
function vmstorage(words: readonly string[], environment: NodeJS.ProcessEnv): Promise<Ended> {
  const { VMSTORAGE_HOME: _, VMSTORAGE_HOST: __, ...rest } = process.env;
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [join(repository, 'dist/src/cli/main.js'), ...words],
      { env: { ...rest, ...environment }, timeout: 60_000 },
      (error, out, err) => resolve({ code: error ? Number(error.code ?? -1) : 0, output: `${out}${err}` }),
    );
  });
}

/** A process of the user's with these words on its command line, which is alive until it is ended. */
async function withWords(user: OrdinaryUser, words: readonly string[]): Promise<{ isAlive: () => boolean }> {
  const child = user.start('perl', ['-e', SLEEPS, ...words]);
  await new Promise<void>((resolve) => child.stdout!.once('data', () => resolve()));
  return { isAlive: () => child.exitCode === null && child.signalCode === null };
}

describe.skipIf(lacksOrdinaryUser())('a process of another user', () => {
  it("with a worker's socket on its command line is neither waited for nor ended", async () => {
    await using mallory = await OrdinaryUser.create();
    await using instance = await Instance.start('argv-worker');
    const foreign = await withWords(mallory, ['--', '--socket', join(instance.paths.runFolder, `tool-${instance.hostPid}-0.sock`)]);
    await instance.run('New-VHD', { Path: [join(instance.folder, 'a.vhdx')], SizeBytes: String(4 * MB), Dynamic: true });
    expect(foreign.isAlive()).toBe(true);
  });

  it("with a machine's identifier on its command line does not make it run, and is not ended by turning it off", async () => {
    await using mallory = await OrdinaryUser.create();
    await using instance = await Instance.start('argv-qemu');
    const [vm] = await instance.run('New-VM', { Name: 'web01', Path: instance.folder });
    const id = String(vm!['Id']);
    await instance.stopHost();
    mkdirSync(instance.paths.vmRunFolder(id), { recursive: true });
    const foreign = await withWords(mallory, ['--', '-uuid', id, '-pidfile', instance.paths.qemuPidFile(id)]);
    await instance.startHost();
    expect((await instance.run('Get-VM', { Name: ['web01'] }))[0]).toMatchObject({ State: 'Off' });
    await instance.collect('Stop-VM', { Name: ['web01'], TurnOff: true, Force: true });
    expect(foreign.isAlive()).toBe(true);
  });

  it('that has set-user-id rights is another user’s all the same', async () => {
    await using mallory = await OrdinaryUser.create();
    await using scratch = await makeScratch('setuid');
    chmodSync(scratch.path, 0o755);
    // A program of root's that waits and has the words of its caller: with root's effective and saved user, and mallory's real one.
    const child = spawn('setpriv', [`--ruid=${mallory.uid}`, '--euid=0', '--', 'sleep', '61.75'], { stdio: 'ignore' });
    try {
      await until('it sleeps', () => systemProcesses.commandLine(child.pid!)[1] === '61.75' || undefined);
      expect(systemProcesses.find((line) => line[1] === '61.75')).toEqual([]);
    } finally {
      child.kill('SIGKILL');
    }
  });

  it('cannot take the name by which a second host is kept away, nor that of the folder in memory', async () => {
    await using mallory = await OrdinaryUser.create();
    await using instance = await Instance.start('names');
    chmodSync(instance.folder, 0o711);
    // What he sees while the host runs he takes as soon as it is free.
    const takes = mallory.start('perl', [
      '-e',
      `use Socket; $| = 1; my @names = map { /\\@(vmstorage-[0-9a-f]{32}\\@*)/ ? $1 =~ tr/@/\\0/r : () } do { open(my $f, "<", "/proc/net/unix"); <$f> };
       my @kept; for my $name (@names) { socket(my $s, AF_UNIX, SOCK_STREAM, 0); push @kept, [$s, pack("S a*", AF_UNIX, "\\0$name")] }
       my $folder = shift @ARGV; print "looks\\n";
       for (1..6000) { bind($_->[0], $_->[1]) for @kept; mkdir $folder, 0777 if $folder ne ""; select(undef, undef, undef, 0.005) }`,
      memoryFolder(instance.environment) ?? `/dev/shm/vmstorage-${createHash('sha256').update(instance.home).digest('hex').slice(0, 16)}`,
    ]);
    await new Promise<void>((resolve) => takes.stdout!.once('data', () => resolve()));
    const before = memoryFolder(instance.environment);
    await instance.stopHost();
    if (before !== null) await until('he has taken the folder', () => existsSync(before) || undefined);
    await instance.startHost();
    expect(await instance.run('Get-VM', {})).toEqual([]);
    expect(memoryFolder(instance.environment)).not.toBe(before);
    takes.kill('SIGKILL');
    await once(takes, 'close');
    if (before !== null) rmSync(before, { recursive: true, force: true });
  });
});

const pwsh = lacksOrdinaryUser() ? undefined : await pwshOrUndefined();

describe.skipIf(lacksOrdinaryUser())('a socket of another user', () => {
  /** Says hello as a host, with a process of the caller's choice. */
  const POSES = `use IO::Socket::UNIX; my ($path, $pid) = @ARGV; my $l = IO::Socket::UNIX->new(Local => $path, Listen => 5) or die;
    chmod 0777, $path; $| = 1; print "listens\\n";
    while (my $c = $l->accept) { my $body = "{\\"k\\":\\"hello\\",\\"v\\":1,\\"host\\":\\"0.1.0\\",\\"pid\\":$pid}"; print $c pack("V", length $body), $body; $c->flush; sysread $c, my $said, 65536; print STDOUT "heard $said\\n"; sleep 1 }`;

  async function poses(mallory: OrdinaryUser, folder: string, pid: number) {
    chmodSync(folder, 0o755);
    const socket = join(mallory.own(join(folder, 'm')), 'host.sock');
    const poser = mallory.start('perl', ['-e', POSES, socket, String(pid)]);
    let heard = '';
    poser.stdout!.on('data', (chunk: Buffer) => (heard += chunk.toString()));
    await until('it listens', () => heard.includes('listens') || undefined);
    return { socket, pid: poser.pid, heard: () => heard };
  }

  it('is not spoken to by the command line, and what it says is nothing: host stop ends no process that it names', async () => {
    await using mallory = await OrdinaryUser.create();
    await using scratch = await makeScratch('poses');
    const victim = spawn('sleep', ['90'], { stdio: 'ignore' });
    try {
      const poser = await poses(mallory, scratch.path, victim.pid!);
      const { socket } = poser;
      const stop = await vmstorage(['host', 'stop'], { VMSTORAGE_HOST: socket });
      expect(stop).toMatchObject({ code: 8 });
      expect(stop.output).toMatch(new RegExp(`process \\(${poser.pid}\\) of user ${mallory.uid}, to whom nothing is told`));
      expect((await vmstorage(['Get-VM'], { VMSTORAGE_HOST: socket })).code).toBe(8);
      expect(victim.exitCode ?? victim.signalCode).toBeNull();
      expect(poser.heard()).not.toContain('k":');
    } finally {
      victim.kill('SIGKILL');
    }
  });

  it.skipIf(!requires('pwsh', pwsh, 'there is no PowerShell 7.6'))('is not spoken to by the cmdlets', async () => {
    await using mallory = await OrdinaryUser.create();
    await using scratch = await makeScratch('poses');
    const poser = await poses(mallory, scratch.path, 1);
    const environment = { ...(await moduleEnvironment()), VMSTORAGE_HOST: poser.socket };
    await using session = await PwshSession.start({ executable: pwsh!.path, environment });
    const { errors } = await session.invoke('Get-VM');
    expect(errors[0]?.message).toMatch(new RegExp(`process \\(${poser.pid}\\) of user ${mallory.uid}, to whom nothing is told`));
    expect(poser.heard()).not.toContain('k":');
  });
});

describe.skipIf(lacksOrdinaryUser())('a folder of another user', () => {
  it('is not taken as VMSTORAGE_HOME, by client or host, and no link in it is followed', async () => {
    await using mallory = await OrdinaryUser.create();
    await using scratch = await makeScratch('home');
    chmodSync(scratch.path, 0o755);
    const precious = join(scratch.path, 'precious');
    writeFileSync(precious, 'as it was', { mode: 0o600 });
    const home = mallory.own(join(scratch.path, 'h'));
    expect((await mallory.sh('ln -s "$1" "$2/host.log"; mkdir "$2/logs"; ln -s "$1" "$2/logs/host.log"', precious, home)).code).toBe(0);
    const start = await vmstorage(['host', 'start'], { VMSTORAGE_HOME: home });
    if (start.code === 0) await vmstorage(['host', 'stop'], { VMSTORAGE_HOME: home });
    expect(start).toMatchObject({ code: 8 });
    expect(start.output).toContain(`The folder '${home}' is not used: it belongs to user ${mallory.uid}.`);
    expect(readFileSync(precious, 'utf8')).toBe('as it was');
    const host = await new Promise<Ended>((resolve) => {
      execFile(
        process.execPath,
        [join(repository, 'dist/src/host/main.js')],
        { env: { ...process.env, VMSTORAGE_HOME: home }, timeout: 20_000 },
        (error, out, err) => resolve({ code: error ? Number(error.code ?? -1) : 0, output: `${out}${err}` }),
      );
    });
    expect(host).toMatchObject({ code: 8 });
    expect(readFileSync(precious, 'utf8')).toBe('as it was');
  });

  it.each([['that others may write to', (folder: string) => chmodSync(folder, 0o777), /can be written to by others \(its mode is 0777\)/]])(
    'nor is one in a folder %s',
    async (_, spoil, says) => {
      await using scratch = await makeScratch('way');
      const way = join(scratch.path, 'w');
      mkdirSync(way);
      spoil(way);
      const start = await vmstorage(['host', 'start'], { VMSTORAGE_HOME: join(way, 'h') });
      if (start.code === 0) await vmstorage(['host', 'stop'], { VMSTORAGE_HOME: join(way, 'h') });
      expect(start).toMatchObject({ code: 8 });
      expect(start.output).toMatch(says);
      expect(existsSync(join(way, 'h'))).toBe(false);
    },
  );

  it('that a link leads to is refused as well, and a link as the folder of the logs', async () => {
    await using mallory = await OrdinaryUser.create();
    await using scratch = await makeScratch('links');
    chmodSync(scratch.path, 0o755);
    mallory.own(join(scratch.path, 'm'));
    symlinkSync(join(scratch.path, 'm'), join(scratch.path, 'to-m'));
    const away = await vmstorage(['host', 'start'], { VMSTORAGE_HOME: join(scratch.path, 'to-m', 'h') });
    expect(away).toMatchObject({ code: 8 });
    expect(away.output).toContain(`'${join(scratch.path, 'm')}' belongs to user ${mallory.uid}`);
    const home = join(scratch.path, 'h');
    mkdirSync(home);
    symlinkSync(join(scratch.path, 'm'), join(home, 'logs'));
    const linked = await vmstorage(['host', 'start'], { VMSTORAGE_HOME: home });
    if (linked.code === 0) await vmstorage(['host', 'stop'], { VMSTORAGE_HOME: home });
    expect(linked.code).not.toBe(0);
    expect(linked.output).toContain(`'${join(home, 'logs')}' is not used: it is a link or no folder`);
  });
});
