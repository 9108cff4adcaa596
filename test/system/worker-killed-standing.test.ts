/**
 * kill -9 of a worker while a thread of it stands still in the destination's file system, where no signal reaches it: its successor serves
 * the guest at once all the same, and goes on with the move, or gives it up, when the destination lets go.
 */
import { execFile } from 'node:child_process';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BuiltInVm } from '../support/built-in-vm.js';
import { Instance } from '../support/instance.js';
import { standingThreads } from '../support/kernel-state.js';
import { reasonOf } from '../support/machine.js';
import { DaemonDisk, lacksHangingDisks, mountTmpfs, type Mount } from '../support/mounts.js';
import { lacks } from '../support/requires.js';
import { until } from '../support/until.js';
import { WaitMeter } from '../support/wait-meter.js';

const run = promisify(execFile);
const MIB = 2 ** 20;
/** A guest that a device with 100 ms a write keeps up with. */
const LIGHT = { queueDepth: 2, rate: 6, writePercent: 60, zeroPercent: 0, flushEvery: 16, spanBytes: 4 * MIB };
/** A new process and its first answer take a second or two on a busy machine. Without a table of its own the guest waits for the thaw. */
const WAIT_MOST_MS = 8_000;

/** Frozen until disposed of: whoever writes sleeps in the kernel, and no signal ends it. */
async function freeze(path: string): Promise<AsyncDisposable> {
  await run('fsfreeze', ['--freeze', path]);
  return { [Symbol.asyncDispose]: async () => void (await run('fsfreeze', ['--unfreeze', path])) };
}

const wanting = ['root', 'qemu-storage-daemon', 'nbdkit', 'mkfs.ext4', 'losetup', 'fsfreeze'];

describe.skipIf(lacks(...wanting) || lacksHangingDisks())('a worker that is killed while its destination hangs', () => {
  let instance: Instance;
  let own: Mount;
  let slow: DaemonDisk;
  let vm: BuiltInVm;

  beforeAll(async () => {
    instance = await Instance.start('standing', (made) => BuiltInVm.environment(made, LIGHT));
    own = await mountTmpfs(join(instance.folder, 'own'), 'size=256m');
    slow = await DaemonDisk.mount(join(instance.folder, 'slow'), 200 * MIB, { writeMs: 100 });
    vm = await BuiltInVm.create(instance, { name: 'standing', folder: join(own.path, 'a'), diskBytes: [24 * MIB, 24 * MIB] });
    await vm.start();
  });
  afterAll(async () => {
    await instance?.run('Stop-VM', { Name: ['standing'], TurnOff: true }).catch(() => undefined);
    await instance?.run('Remove-VM', { Name: ['standing'], Force: true }).catch(() => undefined);
    await slow?.[Symbol.asyncDispose]();
    await own?.[Symbol.asyncDispose]();
    await instance?.[Symbol.asyncDispose]();
  });

  /** Of the second disk; the first one stays where it is. */
  async function move(to: string): Promise<void> {
    const source = (await vm.diskPaths())[1]!;
    const pair = { SourceFilePath: source, DestinationFilePath: join(to, basename(source)) };
    await instance.run('Move-VMStorage', { Name: vm.name, Vhds: [pair] }, { set: 'NameMultipleDestinations' });
  }

  /** Kills it when a thread of it stands still, and waits until its successor has served every disk. Returns the guest's longest wait. */
  async function killStanding(pid: number): Promise<number> {
    const standing = await until('a thread stands still', () => {
      const found = standingThreads(pid, '');
      return found.length > 0 ? found : undefined;
    });
    const meter = new WaitMeter(() => vm.guest());
    process.kill(pid, 'SIGKILL');
    await until('the successor serves', async () => {
      const status = vm.probe.pid === pid ? null : await vm.probe.status();
      return status && status.pid !== pid && status.disks.every((disk) => disk.waitingFor === null) ? true : undefined;
    });
    await vm.goesOn(2);
    // What it stood in, it stands in still: nobody has waited for that.
    expect(standingThreads(pid, ''), standing.join('\n')).not.toEqual([]);
    const { longestMs } = await meter.end();
    console.log(`killed while it stood in: ${standing[0]}: the guest's longest wait ${longestMs.join(' and ')} ms`);
    return Math.max(...longestMs);
  }

  it('in the mirror: the guest goes on, and so does the move when it can', async () => {
    const moving = move(slow.path);
    moving.catch(() => undefined); // told below
    expect(await vm.probe.inPhase(['mirror'], moving)).toBe('mirror');
    {
      await using _ = await freeze(slow.path);
      expect(await killStanding(vm.probe.pid!)).toBeLessThan(WAIT_MOST_MS);
    }
    await moving;
    expect((await vm.diskPaths())[1]).toBe(join(slow.path, 'standing-1.img'));
    await move(join(own.path, 'a'));
  });

  it('in the copy, and the move is stopped: the VM is on its source, and free for another move', async () => {
    const moving = move(slow.path);
    const fails = reasonOf(moving);
    expect(await vm.probe.inPhase(['copy'], moving)).toBe('copy');
    await using _ = await freeze(slow.path);
    expect(await killStanding(vm.probe.pid!)).toBeLessThan(WAIT_MOST_MS);
    await instance.run('Stop-VMStorageMove', { Name: [vm.name] });
    expect(await fails).toMatch(/^OperationStopped: /);
    await move(join(own.path, 'b'));
  });

  it('has every byte right', async () => {
    await vm.stopAndCheck();
  });
});
