/** The QEMU provider with a real QEMU; its disk is served by qemu-storage-daemon in the worker's place. */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { QemuHypervisor } from '../../src/hypervisor/qemu.js';
import type { VmConfiguration, VmState } from '../../src/model/vm.js';
import { systemClock, waitUntil } from '../../src/os/clock.js';
import { systemFiles } from '../../src/os/files.js';
import { silentLog } from '../../src/os/log.js';
import { instancePaths, type InstancePaths } from '../../src/os/paths.js';
import { systemProcesses as processes } from '../../src/os/processes.js';
import { guestKernel } from '../support/guest-kernel.js';
import { lacks, requires } from '../support/requires.js';
import { vmConfiguration } from '../support/vm-configuration.js';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });
const inPath = (program: string) => (process.env['PATH'] ?? '').split(':').some((place) => existsSync(join(place, program)));
const peers = requires('QEMU', inPath('qemu-system-x86_64') && inPath('qemu-storage-daemon'));

const ID = 'aaaaaaaa-0000-4000-8000-000000000001';
let folder: string;
let paths: InstancePaths;
const hypervisors: QemuHypervisor[] = [];
const daemons: ChildProcess[] = [];

/** As the host gives it to each VM when it is root. */
const USER = 2_100_000_000 + (process.pid % 65_536);
const users = process.geteuid?.() === 0 ? { of: () => USER, assign: async () => USER, includes: (uid: number) => uid === USER } : undefined;

function provider(environment: NodeJS.ProcessEnv = process.env): QemuHypervisor {
  const made = new QemuHypervisor({ paths, processes, clock: systemClock, log: silentLog, environment, ...(users ? { users } : {}) });
  hypervisors.push(made);
  return made;
}
const machine = (change: Partial<VmConfiguration> = {}): VmConfiguration =>
  vmConfiguration(folder, { id: ID, name: 'web, 01', generation: 1, memoryStartupBytes: 64 * 2 ** 20, ...change });
const withDisk = machine({
  disks: [
    { id: 'd', controllerType: 'IDE', controllerNumber: 0, controllerLocation: 0, path: '/unused.img', format: 'raw', passThrough: false },
  ],
});
/** Of whatever user: a guest's is its own. */
const ours = () => processes.find((line) => line[line.indexOf('-uuid') + 1] === ID, { isUser: () => true, isProgram: () => true });
const until = async (what: string, condition: () => boolean): Promise<void> => {
  if (!(await waitUntil(systemClock, 60_000, 20, () => (condition() ? true : undefined)))) throw new Error(`not within 60 s: ${what}`);
};

async function serveDisk(): Promise<ChildProcess> {
  const image = join(folder, 'disk.img');
  await systemFiles.makeFolders(paths.vmRunFolder(ID));
  await writeFile(image, '', { flag: 'a' });
  await truncate(image, 16 * 2 ** 20);
  const socket = paths.diskSocket(ID, 0);
  await rm(socket, { force: true });
  const daemon = spawn(
    'qemu-storage-daemon',
    [
      '--blockdev',
      `driver=file,node-name=disk,filename=${image},locking=off`,
      '--export',
      `type=vhost-user-blk,id=export,node-name=disk,writable=on,addr.type=unix,addr.path=${socket}`,
    ],
    { stdio: 'ignore' },
  );
  daemons.push(daemon);
  const names = async () => ((await readdir(paths.vmRunFolder(ID))).includes('d0.sock') ? true : undefined);
  if (!(await waitUntil(systemClock, 20_000, 20, names))) throw new Error('qemu-storage-daemon does not serve');
  return daemon;
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vmst-q-'));
  paths = instancePaths({ VMSTORAGE_HOME: folder });
  await systemFiles.makeFolders(paths.vmLogFolder(ID));
});
afterEach(async () => {
  for (const one of hypervisors.splice(0)) one.close();
  for (const one of ours()) processes.signal(one, 'SIGKILL');
  for (const one of daemons.splice(0)) one.kill('SIGKILL');
  await until('no QEMU', () => ours().length === 0);
  await rm(folder, { recursive: true, force: true });
});

describe.skipIf(!peers)('the QEMU provider', () => {
  it('starts, pauses, continues and turns off a guest, and leaves no socket', async () => {
    const qemu = provider();
    const states: VmState[] = [];
    qemu.subscribe((_, state) => states.push(state));
    let verified = 0;
    await qemu.start(machine(), { verify: async (pid) => void (verified = pid) });
    expect(qemu.runtime(ID)).toMatchObject({ state: 'Running', pid: verified, trouble: null });
    await expect(qemu.start(machine())).rejects.toMatchObject({ code: 'InvalidState' });
    await qemu.pause(ID);
    expect(qemu.state(ID)).toBe('Paused');
    await qemu.resume(ID);
    expect(qemu.state(ID)).toBe('Running');
    expect(await qemu.shutDown(ID, 300)).toBe(false); // SeaBIOS without a disk does not hear the button
    await qemu.turnOff(ID);
    expect(states).toEqual(['Starting', 'Running', 'Paused', 'Running', 'Stopping', 'Off']);
    expect(await readdir(paths.vmRunFolder(ID))).toEqual([]);
    expect(ours()).toEqual([]);
  });

  it.skipIf(lacks('guest'))('shuts down a guest that was asked while it still booted and did not hear it', async () => {
    const qemu = provider();
    await serveDisk();
    const { kernel, initrd } = guestKernel();
    const directBoot = { kernel, initrd, arguments: 'quiet panic=-1 w.span=8' };
    await qemu.start({ ...withDisk, memoryStartupBytes: 128 * 2 ** 20, directBoot });
    expect(await qemu.shutDown(ID, 60_000)).toBe(true);
    expect(qemu.state(ID)).toBe('Off');
  });

  it('sees the end of a killed QEMU', async () => {
    const qemu = provider();
    await qemu.start(machine());
    process.kill(qemu.runtime(ID).pid!, 'SIGKILL');
    await until('Off', () => qemu.state(ID) === 'Off');
    await qemu.start(machine());
    expect(qemu.state(ID)).toBe('Running');
  });

  it('does not touch a guest when its host ends; the next host has it back with its state, and can stop it', async () => {
    const first = provider();
    await first.start(machine());
    const { pid } = first.runtime(ID);
    await first.pause(ID);
    first.close();
    const second = provider();
    expect(await second.adopt(ID)).toBe('Paused');
    expect(second.runtime(ID)).toMatchObject({ pid, trouble: null });
    expect(Math.abs(Date.now() - Date.parse(second.runtime(ID).startedAt!))).toBeLessThan(120_000);
    await second.resume(ID);
    await second.turnOff(ID);
    expect(await provider().adopt(ID)).toBe('Off');
  });

  it('says what keeps a guest from control when another client has its monitor, and controls it once that is gone', async () => {
    const first = provider();
    await first.start(machine());
    const second = provider();
    expect(await second.adopt(ID)).toBe('Running');
    expect(second.runtime(ID).trouble).toMatch(/monitor does not answer/);
    first.close();
    await until('the monitor', () => second.runtime(ID).trouble === null);
    await second.turnOff(ID);
  });

  it('ends a guest whose start its host did not live to finish', async () => {
    const first = provider();
    let reached!: () => void;
    const verifying = new Promise<void>((resolve) => (reached = resolve));
    void first.start(machine(), {
      verify: () => {
        reached();
        return new Promise(() => {});
      },
    });
    await verifying;
    first.close();
    expect(await provider().adopt(ID)).toBe('Off');
    expect(ours()).toEqual([]);
  });

  it('connects a disk to whoever serves it, again after the server was killed, with the guest running all the time', async () => {
    const qemu = provider();
    const daemon = await serveDisk();
    await qemu.start(withDisk);
    const { pid } = qemu.runtime(ID);
    daemon.kill('SIGKILL');
    await serveDisk();
    const connected = () => processes.commandLine(pid!).length > 0 && qemu.state(ID) === 'Running';
    await until('running on', connected);
    await qemu.pause(ID);
    await qemu.resume(ID);
    expect(qemu.runtime(ID)).toMatchObject({ state: 'Running', pid });
    await qemu.turnOff(ID);
  });

  it('starts nothing, and says why, when a disk is not served, QEMU refuses, or the check of the peers fails', async () => {
    const qemu = provider();
    await systemFiles.makeFolders(paths.vmRunFolder(ID));
    await expect(qemu.start(withDisk)).rejects.toThrow(/could not be started.*d0\.sock/s);
    await expect(qemu.start(machine({ directBoot: { kernel: '/nowhere/vmlinuz', initrd: null, arguments: '' } }))).rejects.toThrow(
      /vmlinuz/,
    );
    await expect(qemu.start(machine(), { verify: () => Promise.reject(new Error('a stranger')) })).rejects.toThrow(/a stranger/);
    await expect(qemu.start(machine(), { prepare: () => Promise.reject(new Error('no worker')) })).rejects.toThrow(/no worker/);
    await expect(provider({ PATH: '/nowhere' }).start(machine())).rejects.toThrow(/no qemu-system-x86_64 in PATH/);
    expect(qemu.state(ID)).toBe('Off');
    expect(ours()).toEqual([]);
  });

  it('boots generation 2 by OVMF with variables of its own', async () => {
    const qemu = provider();
    await qemu.start(machine({ generation: 2, memoryStartupBytes: 256 * 2 ** 20 }));
    expect(qemu.state(ID)).toBe('Running');
    expect(await readdir(paths.firmwareFolder)).toEqual([`${ID}.vars.fd`]);
    await qemu.turnOff(ID);
  });
});
