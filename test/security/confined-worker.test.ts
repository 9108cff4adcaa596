/** A guest that has taken the worker of its disks over: what that process may still do beside working on files. */
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Instance } from '../support/instance.js';
import { Machine } from '../support/machine.js';
import { lacks } from '../support/requires.js';

/** Bits of the kernel's capability numbers (capability.h). */
const CAPABILITIES = { chown: 0, dac_override: 1, dac_read_search: 2, fowner: 3, fsetid: 4, ipc_lock: 14, sys_resource: 24, setfcap: 31 };

describe.skipIf(lacks('root', 'qemu-system-x86_64', 'qemu-img', 'guest', 'setpriv', 'unshare'))('the worker of a VM', () => {
  let instance: Instance;
  let vm: Machine;
  let status: string;
  const field = (name: string): string => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? '';
  const worker = (): number =>
    instance.processes.find((pid) => readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(`\0--vm\0${vm.id}\0`))!;

  beforeAll(async () => {
    instance = await Instance.start('worker-rights');
    await mkdir(join(instance.folder, 'slow'));
    vm = await Machine.create(instance, {
      name: 'w',
      folder: join(instance.folder, 'slow'),
      disks: ['system.vhdx'],
      guest: 'w.disks=vda w.span=8',
    });
    await vm.start();
    status = readFileSync(`/proc/${worker()}/status`, 'latin1');
  });
  afterAll(async () => {
    await vm?.[Symbol.asyncDispose]();
    await instance?.[Symbol.asyncDispose]();
  });

  it('has rights over files and its memory, no others, and cannot get any', () => {
    const most = Object.values(CAPABILITIES).reduce((bits, bit) => bits | (1n << BigInt(bit)), 0n);
    for (const set of ['CapPrm', 'CapEff', 'CapBnd']) expect(BigInt(`0x${field(set)}`) & ~most, set).toBe(0n);
    for (const set of ['CapInh', 'CapAmb']) expect(BigInt(`0x${field(set)}`), set).toBe(0n);
    expect(BigInt(`0x${field('CapEff')}`) & 1n).toBe(1n); // the owner of what a move makes
    expect(field('NoNewPrivs')).toBe('1');
  });

  it('refuses itself what leads into other processes, programs and the kernel, in every thread', () => {
    const threads = readdirSync(`/proc/${worker()}/task`).map((thread) =>
      readFileSync(`/proc/${worker()}/task/${thread}/status`, 'latin1'),
    );
    expect(threads.length).toBeGreaterThan(5);
    for (const thread of threads) expect(thread).toMatch(/^Seccomp:\t2$/m);
  });

  it('has no network and no IPC of others', () => {
    for (const kind of ['net', 'ipc']) expect(readlinkSync(`/proc/${worker()}/ns/${kind}`)).not.toBe(readlinkSync(`/proc/self/ns/${kind}`));
  });

  it('moves its disks all the same, to owner and mode they had, is killed and comes back', async () => {
    process.kill(worker(), 'SIGKILL');
    await vm.move(join(instance.folder, 'fast'));
    expect(vm.console.faults).toEqual([]);
    await vm.stopAndCheck(await vm.diskPaths());
  });
});
