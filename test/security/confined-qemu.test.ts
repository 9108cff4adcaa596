/**
 * A guest that has taken its QEMU over: what it reaches of other VMs, of the host and of this machine. The probe has what that QEMU has: its
 * user, group, no capability, no_new_privs; once in its root and network, once in the host's, as if those did not hold.
 */
import { execFile } from 'node:child_process';
import { chmodSync, readFileSync, readdirSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GUEST_USERS_DEFAULT } from '../../src/registry/guest-users.js';
import { Instance } from '../support/instance.js';
import { lacks } from '../support/requires.js';
import { until } from '../support/until.js';

const run = promisify(execFile);
const MIB = 1024 * 1024;
const SECRET = 'token=not-for-every-user';

/** Does what its arguments say (`read:PATH`, `write:PATH`, `list:PATH`, `connect:PATH`, `signal:PID`), prints those that succeeded. */
const PROBE = `
use IO::Socket::UNIX;
for (@ARGV) {
  my ($what, $on) = /^(\\w+):(.*)$/;
  my $done =
    $what eq 'read' ? open(my $f, '<', $on) :
    $what eq 'write' ? open(my $f, '+<', $on) :
    $what eq 'list' ? opendir(my $d, $on) :
    $what eq 'connect' ? IO::Socket::UNIX->new(Peer => $on) :
    $what eq 'signal' ? kill(0, $on) : die "unknown: $_";
  print "$_\\n" if $done;
}`;

interface Vm {
  readonly id: string;
  readonly disk: string;
  readonly qemu: number;
  readonly worker: number;
  readonly user: number;
}

const field = (pid: number, name: string): string =>
  new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]?.trim() ?? '';

describe.skipIf(lacks('root', 'qemu-system-x86_64', 'guest', 'setpriv', 'nsenter', 'perl'))('a QEMU whose guest has taken it over', () => {
  let instance: Instance;
  let [one, other]: Vm[] = [];
  const kernel = (): string => join(instance.folder, 'vmlinuz');

  async function start(name: string): Promise<Vm> {
    const folder = join(instance.folder, name);
    await mkdir(folder);
    chmodSync(folder, 0o755);
    const disk = join(folder, 'disk.img');
    await instance.run('New-VHD', { Path: [disk], SizeBytes: String(MIB), Fixed: true }, { set: 'FixedWithoutSource' });
    chmodSync(disk, 0o644); // as many disks are: only its root keeps a QEMU from it
    const boot = { KernelPath: kernel(), KernelArguments: `quiet ${SECRET}` };
    const [vm] = await instance.run(
      'New-VM',
      { Name: name, MemoryStartupBytes: String(128 * MIB), Path: folder, VHDPath: disk, ...boot },
      { set: 'Existing VHD' },
    );
    await instance.run('Start-VM', { Name: [name] });
    const id = String(vm!['Id']);
    const qemu = Number(readFileSync(instance.paths.qemuPidFile(id), 'utf8'));
    const worker = instance.processes.find((pid) => readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(`\0--vm\0${id}\0`));
    return { id, disk, qemu, worker: worker!, user: Number(field(qemu, 'Uid').split('\t')[0]) };
  }

  beforeAll(async () => {
    instance = await Instance.start('confined');
    const { guestKernel } = await import('../support/guest-kernel.js');
    writeFileSync(kernel(), readFileSync(guestKernel().kernel), { mode: 0o600 }); // as Ubuntu keeps its kernels
    [one, other] = [await start('one'), await start('other')];
  });
  afterAll(() => instance?.[Symbol.asyncDispose]());

  /** What of `asked` succeeds with the rights of a VM's QEMU. */
  async function reached({ user, qemu }: Vm, where: 'its root' | "the host's root", asked: readonly string[]): Promise<string[]> {
    const rights = [`--reuid=${user}`, `--regid=${user}`, '--clear-groups', '--bounding-set=-all', '--inh-caps=-all', '--no-new-privs'];
    const enter = where === 'its root' ? ['nsenter', `--target=${qemu}`, '--mount', '--net', '--ipc', '--uts', '--'] : [];
    const [command, ...args] = [...enter, 'setpriv', ...rights, '--', 'perl', '-e', PROBE, '--', ...asked];
    const { stdout } = await run(command!, args, { cwd: '/' });
    return stdout.split('\n').filter((line) => line !== '');
  }

  /** Everything that is not this VM's QEMU's to touch. */
  function forbidden(): string[] {
    const { paths } = instance;
    const files = readdirSync(instance.home, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name));
    expect(files).toContain(paths.registryFile);
    const folders = [instance.home, paths.runFolder, paths.vmRunFolder(one!.id), paths.vmRunFolder(other!.id), paths.logsFolder];
    const sockets = [
      ...[paths.hostSocket, paths.diskSocket(other!.id, 0)],
      ...[one!, other!].flatMap(({ id }) => [paths.workerSocket(id), paths.qmpSocket(id)]),
    ];
    const processes = [instance.hostPid, one!.worker, other!.worker, other!.qemu, process.pid, 1];
    return [
      ...[...files, ...sockets, kernel(), '/dev/kvm', '/dev/mem', '/etc/shadow'].flatMap((path) => [`read:${path}`, `write:${path}`]),
      ...folders.map((path) => `list:${path}`),
      ...sockets.map((path) => `connect:${path}`),
      ...processes.flatMap((pid) => [`signal:${pid}`, `read:/proc/${pid}/environ`, `write:/proc/${pid}/mem`, `list:/proc/${pid}/fd`]),
      ...[one!, other!].map(({ disk }) => `write:${disk}`),
    ];
  }

  it('has a user of its own, no group of anybody, no capability, and cannot get any', () => {
    expect(one!.user).not.toBe(other!.user);
    for (const { qemu, user } of [one!, other!]) {
      expect(user).toBeGreaterThanOrEqual(GUEST_USERS_DEFAULT.first);
      expect(user).toBeLessThan(GUEST_USERS_DEFAULT.first + GUEST_USERS_DEFAULT.count);
      for (const name of ['Uid', 'Gid']) expect(field(qemu, name)).toBe([user, user, user, user].join('\t'));
      expect(field(qemu, 'Groups')).toBe('');
      for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) expect(field(qemu, set)).toBe('0000000000000000');
      expect([field(qemu, 'NoNewPrivs'), field(qemu, 'Seccomp')]).toEqual(['1', '2']);
    }
  });

  it('reaches nothing of another VM, of the host, of the disks, with its rights alone', async () => {
    const own = `connect:${instance.paths.diskSocket(one!.id, 0)}`;
    // By its path it may not even come to its own: it works in that folder, whose parents are closed to it.
    expect(await reached(one!, "the host's root", [own, ...forbidden()])).toEqual([]);
    expect(await reached(one!, "the host's root", [`read:${one!.disk}`, 'read:/etc/passwd', `signal:${one!.qemu}`])).toHaveLength(3); // the probe works
  });

  it('finds programs and its own socket in its root, and nothing else', async () => {
    const world = [
      `read:${one!.disk}`,
      `read:${other!.disk}`,
      'read:/etc/passwd',
      'list:/proc',
      'list:/home',
      'list:/var',
      'list:/run',
      'list:/sys',
    ];
    expect(await reached(one!, 'its root', [...forbidden(), ...world])).toEqual([]);
    // QEMU holds the one connection there is; another one waits for it.
    expect(
      await reached(one!, 'its root', [
        'connect:/vm/d0.sock',
        'list:/vm',
        'connect:/vm/qmp.sock',
        'connect:/vm/worker.sock',
        `signal:${one!.qemu}`,
      ]),
    ).toEqual(['connect:/vm/d0.sock', `signal:${one!.qemu}`]);
    const root = readdirSync(`/proc/${one!.qemu}/root`);
    expect(
      root.filter((name) => !['usr', 'bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32', 'etc', 'dev', 'nix', 'gnu', 'tmp'].includes(name)),
    ).toEqual(expect.arrayContaining(['before', 'vm']));
    expect(readdirSync(`/proc/${one!.qemu}/root/before`)).toEqual([]);
    for (const kind of ['mnt', 'net', 'ipc', 'uts'])
      expect(readlinkSync(`/proc/${one!.qemu}/ns/${kind}`)).not.toBe(readlinkSync(`/proc/self/ns/${kind}`));
    expect(
      readFileSync(`/proc/${one!.qemu}/net/dev`, 'utf8')
        .trim()
        .split('\n')
        .slice(2)
        .map((line) => line.trim().split(':')[0]),
    ).toEqual(['lo']);
  });

  it('can write to nothing it has open but its console, its log, its memory and its sockets', () => {
    const open = readdirSync(`/proc/${one!.qemu}/fd`).flatMap((fd) => {
      const flags = /^flags:\s*(\d+)/m.exec(readFileSync(`/proc/${one!.qemu}/fdinfo/${fd}`, 'utf8'))?.[1] ?? '0';
      return (Number.parseInt(flags, 8) & 3) === 0 ? [] : [readlinkSync(`/proc/${one!.qemu}/fd/${fd}`)];
    });
    const known = [
      /^socket:/,
      /^anon_inode:/,
      /^\/memfd:(memory-backend-memfd|vmstorage-inflight)/,
      /\/logs\/[0-9a-f-]+\/(console|qemu)\.log$/,
    ];
    expect(open.filter((path) => !known.some((one) => one.test(path)))).toEqual([]);
  });

  it("does not tell every user the kernel's arguments, nor what the host was started with", () => {
    const lines = readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
      .flatMap((name) => {
        try {
          return [readFileSync(`/proc/${name}/cmdline`, 'latin1')];
        } catch {
          return []; // it has ended
        }
      });
    expect(lines.filter((line) => line.includes(SECRET))).toEqual([]);
    const names = readFileSync(`/proc/${one!.qemu}/environ`, 'latin1')
      .split('\0')
      .flatMap((entry) => /^[^=]+/.exec(entry) ?? []);
    expect(names.filter((name) => !/^(PATH|PWD|VMSTORAGE_.*)$/.test(name))).toEqual([]);
  });

  it('is found and controlled by the next host, and comes back to its disk when its worker is killed', async () => {
    const socket = instance.paths.diskSocket(one!.id, 0);
    await instance.killHost();
    process.kill(one!.worker, 'SIGKILL');
    await instance.startHost();
    expect((await instance.run('Get-VM', { Name: ['one'] }))[0]).toMatchObject({ State: 'Running' });
    expect(field(one!.qemu, 'Uid').split('\t')[0]).toBe(String(one!.user));
    const successor = await until('the next worker has a guest', () => {
      const found = statSync(socket, { throwIfNoEntry: false });
      return found && (found.mode & 0o777) === 0o660 ? found : undefined;
    });
    expect([successor.uid, successor.gid]).toEqual([0, one!.user]);
    await instance.run('Stop-VM', { Name: ['one'], TurnOff: true });
    expect((await instance.run('Get-VM', { Name: ['one'] }))[0]).toMatchObject({ State: 'Off' });
  });
});
