/**
 * Destinations that are slow or stand still, on the file systems that people have, in the phases of a move: nobody waits for them who need
 * not. Not the guest on the disk that moves, while the move can be taken back; not on its other disk, ever; not who asks, nor who stops.
 * When they answer again, a move works.
 *
 * ```text
 *   own (tmpfs)   vm-ext4, vm-xfs, vm-btrfs: a disk that stays, and one that moves ──► its own ext4, XFS, btrfs, 100 ms a write
 * ```
 * The three go through each case side by side: most of the time nothing happens but waiting. tmpfs has no device that could be slow and
 * cannot be frozen: it is the healthy one here, and a destination at the end.
 */
import { spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Collected } from '../../src/client/invoke.js';
import type { MovePhase } from '../../src/model/move.js';
import type { WireObject } from '../../src/protocol/messages.js';
import { BuiltInVm } from '../support/built-in-vm.js';
import { Instance } from '../support/instance.js';
import { standingThreads } from '../support/kernel-state.js';
import { filesBelow, reasonOf } from '../support/machine.js';
import { DaemonDisk, lacksHangingDisks, mountTmpfs, type FileSystemKind, type Mount } from '../support/mounts.js';
import { lacks } from '../support/requires.js';
import { standStill } from '../support/stand-still.js';
import { until } from '../support/until.js';
import { WaitMeter, type Waits } from '../support/wait-meter.js';

const MIB = 2 ** 20;
/** What the guest may wait while the move can still be taken back, and always on a disk that does not move. */
const WAIT_MOST_MS = 300;
/** What a question may take. */
const ANSWER_MOST_MS = 1_000;
/** What a stop may take: 5 s of the worker's patience and 3 s of the host's, and a busy machine. */
const STOP_MOST_MS = 20_000;
/** Longer than any patience with a request of a guest. */
const HANG_MS = 1_500;
/** A guest that a device with 100 ms a write keeps up with. */
const LIGHT = { queueDepth: 2, rate: 5, writePercent: 60, zeroPercent: 0, flushEvery: 16, spanBytes: 4 * MIB };
/** In which the guest is on the source. */
const BEFORE_COMMITTED: readonly MovePhase[] = ['copy', 'mirror', 'verify', 'synchronized', 'switch'];
const MOVES = 1;
const DISK_BYTES = 24 * MIB;

/** A file beside the image. */
const NEIGHBOUR = 'neighbour';

const kinds = ['ext4', 'xfs', 'btrfs'] as const satisfies readonly FileSystemKind[];
/** The least that mkfs makes. */
const SIZE_BYTES: { readonly [K in FileSystemKind]: number } = { ext4: 200 * MIB, xfs: 320 * MIB, btrfs: 200 * MIB };

interface Place {
  readonly kind: FileSystemKind;
  readonly vm: BuiltInVm;
  readonly slow: DaemonDisk;
}

const wanting = ['root', 'qemu-storage-daemon', 'nbdkit', 'mkfs.ext4', 'mkfs.xfs', 'mkfs.btrfs', 'losetup'];

describe.skipIf(lacks(...wanting) || lacksHangingDisks())('a destination that stands still', () => {
  let instance: Instance;
  let own: Mount;
  let places: readonly Place[] = [];
  const slowest = { answerMs: 0, stopMs: 0 };

  beforeAll(async () => {
    instance = await Instance.start('stands', (made) => BuiltInVm.environment(made, LIGHT));
    await instance.run('Set-VMHost', { MaximumStorageMigrations: kinds.length }, { set: 'ComputerName' });
    // In memory: what a guest waits for there is our doing.
    own = await mountTmpfs(join(instance.folder, 'own'), 'size=512m');
    places = await Promise.all(
      kinds.map(async (kind) => {
        const slow = await DaemonDisk.mount(join(instance.folder, kind), SIZE_BYTES[kind], { kind, writeMs: 100 });
        await writeFile(join(slow.path, NEIGHBOUR), '');
        const vm = await BuiltInVm.create(instance, { name: kind, folder: join(own.path, kind), diskBytes: [DISK_BYTES, DISK_BYTES] });
        // All of it is data, so that there is a copy to be seen.
        await writeFile(await sourceOf(vm), Buffer.alloc(DISK_BYTES));
        await vm.start();
        return { kind, vm, slow };
      }),
    );
  });
  afterAll(async () => {
    for (const { vm } of places) await instance.run('Stop-VM', { Name: [vm.name], TurnOff: true }).catch(() => undefined);
    for (const { slow } of places) await slow[Symbol.asyncDispose]();
    await own?.[Symbol.asyncDispose]();
    await instance?.[Symbol.asyncDispose]();
    console.log(`slowest answer ${slowest.answerMs} ms, slowest stop ${slowest.stopMs} ms`);
  });

  const onAll = (body: (place: Place) => Promise<void>): Promise<unknown> => Promise.all(places.map(body));
  const sourceOf = async (vm: BuiltInVm): Promise<string> => (await vm.diskPaths())[MOVES]!;

  /** Moves the one disk into `folder`. */
  async function move(vm: BuiltInVm, folder: string): Promise<WireObject[]> {
    const source = await sourceOf(vm);
    const pair = { SourceFilePath: source, DestinationFilePath: join(folder, basename(source)) };
    return instance.run('Move-VMStorage', { Name: vm.name, Vhds: [pair] }, { set: 'NameMultipleDestinations' });
  }

  async function asks(vm: BuiltInVm): Promise<WireObject> {
    const began = performance.now();
    const [shown] = await instance.run('Get-VMStorageMove', { Name: [vm.name], Last: 1 });
    await vm.get();
    slowest.answerMs = Math.max(slowest.answerMs, Math.round(performance.now() - began));
    return shown!;
  }

  async function stop(vm: BuiltInVm): Promise<Collected> {
    const began = performance.now();
    const collected = await instance.collect('Stop-VMStorageMove', { Name: [vm.name] });
    slowest.stopMs = Math.max(slowest.stopMs, Math.round(performance.now() - began));
    return collected;
  }

  /**
   * Hangs until disposed of, from the middle of a commit of its journal on: somebody else syncs the file beside the image, whose inode is in the
   * same block, and until that is in the journal the time stamps of the image cannot be changed (ext4).
   */
  async function hang(disk: DaemonDisk): Promise<Disposable> {
    const other = spawn('sh', ['-c', 'touch "$0" && exec sync "$0"', join(disk.path, NEIGHBOUR)], { stdio: 'ignore' });
    await until('a commit is under way', () => standingThreads(other.pid!, 'sync').length > 0 || other.exitCode !== null || undefined);
    return standStill(disk.daemonPid);
  }

  const left = (folder: string): string[] => filesBelow(folder).filter((path) => basename(path) !== NEIGHBOUR);

  function expectUnfelt(what: string, { longestMs, ownDelayMs }: Waits): void {
    console.log(`${what}: the guest's longest waits ${longestMs.join(' and ')} ms; this process was late by ${ownDelayMs} ms at most`);
    expect(Math.max(...longestMs), what).toBeLessThan(WAIT_MOST_MS + ownDelayMs);
  }

  it('is moved to, and its guest does not feel that it is slow before it is its own', async () => {
    await onAll(async ({ kind, vm, slow }) => {
      const meter = new WaitMeter(() => vm.guest());
      const moving = move(vm, slow.path);
      expect(await vm.probe.inPhase(['copy', 'mirror'], moving)).not.toBeNull();
      await until('the switch', async () => {
        await asks(vm);
        const phase = (await vm.probe.status())?.move?.phase;
        return phase !== undefined && BEFORE_COMMITTED.includes(phase) ? undefined : true;
      });
      expectUnfelt(`${kind}, slow`, await meter.end());
      await moving;
      expect(await sourceOf(vm)).toBe(join(slow.path, `${kind}-1.img`));
    });
  });

  it('is the own disk of the guest by then, and is moved away from', async () => {
    await onAll(async ({ kind, vm, slow }) => {
      await move(vm, join(own.path, kind));
      expect(left(slow.path)).toEqual([]);
    });
  });

  /** Hangs in one of `phases` for a while, and answers again; the move is stopped then. */
  async function hangsIn({ kind, vm, slow }: Place, phases: readonly MovePhase[]): Promise<MovePhase> {
    const source = await sourceOf(vm);
    const moving = move(vm, slow.path);
    const fails = reasonOf(moving);
    const phase = await vm.probe.inPhase(phases, moving);
    expect(phase, `${kind} in ${phases.join(' or ')}`).not.toBeNull();
    {
      const meter = new WaitMeter(() => vm.guest());
      using _ = await hang(slow);
      const hungSince = performance.now();
      await until('it hung for a while', async () => {
        expect(await asks(vm)).toMatchObject({ Outcome: 'Running' });
        return performance.now() - hungSince > HANG_MS || undefined;
      });
      expectUnfelt(`${kind}, hangs in ${phase}`, await meter.end());
    }
    await stop(vm);
    expect(await fails).toMatch(/^OperationStopped: /);
    expect(await sourceOf(vm)).toBe(source);
    await until('nothing is left there', () => (left(slow.path).length === 0 ? true : undefined));
    return phase!;
  }

  it.each<{ readonly [K in FileSystemKind]: readonly MovePhase[] }>([
    { ext4: ['copy'], xfs: ['mirror', 'verify'], btrfs: ['copy'] },
    { ext4: ['mirror'], xfs: ['copy'], btrfs: ['switch'] },
    { ext4: ['verify', 'switch'], xfs: ['switch'], btrfs: ['mirror', 'verify', 'switch'] },
  ])('holds nobody up: ext4 in $ext4, XFS in $xfs, btrfs in $btrfs', async (phases) => {
    const hung = await Promise.all(places.map((place) => hangsIn(place, phases[place.kind])));
    expect(BEFORE_COMMITTED).toEqual(expect.arrayContaining(hung));
  });

  it('is given up while it hangs: the VM is on its source, another move works, and what is left there goes later', async () => {
    await onAll(async ({ kind, vm, slow }) => {
      const moving = move(vm, slow.path);
      const fails = reasonOf(moving);
      expect(await vm.probe.inPhase(['copy', 'mirror'], moving)).not.toBeNull();
      const meter = new WaitMeter(() => vm.guest());
      {
        const hungSince = performance.now();
        using _ = await hang(slow);
        await until('it hung for a while', () => performance.now() - hungSince > HANG_MS || undefined);
        await stop(vm);
        expect(await fails).toMatch(/^OperationStopped: /);
        await asks(vm);
        await move(vm, join(own.path, `${kind}-2`));
      }
      expectUnfelt(`${kind}, given up`, await meter.end());
      await until('nothing is left there', () => (left(slow.path).length === 0 ? true : undefined), 60_000);
    });
  });

  it('takes 500 ms a write: the guest does not feel it, and a stop is answered', async () => {
    const { vm } = places[0]!;
    await using disk = await DaemonDisk.mount(join(instance.folder, 'slower'), SIZE_BYTES.ext4, { writeMs: 500 });
    const source = await sourceOf(vm);
    const moving = move(vm, disk.path);
    const fails = reasonOf(moving);
    const meter = new WaitMeter(() => vm.guest());
    const since = performance.now();
    await until('it was written to for a while', async () => {
      await asks(vm);
      return performance.now() - since > 2 * HANG_MS || undefined;
    });
    await stop(vm);
    expect(await fails).toMatch(/^OperationStopped: /);
    expectUnfelt('ext4, 500 ms', await meter.end());
    expect(await sourceOf(vm)).toBe(source);
    await until('nothing is left there', () => (filesBelow(disk.path).length === 0 ? true : undefined));
  });

  it('is the source, and hangs when the switch is durable: the guest is on its new disk and waits for nothing', async () => {
    const { vm } = places[0]!;
    await using old = await DaemonDisk.mount(join(instance.folder, 'old'), 200 * MIB);
    await move(vm, old.path);
    const source = await sourceOf(vm);
    const moving = move(vm, join(own.path, 'new'));
    expect(await vm.probe.inPhase(BEFORE_COMMITTED, moving)).not.toBeNull();
    const meter = new WaitMeter(() => vm.guest());
    {
      using _ = standStill(instance.hostPid); // the worker switches by itself; to close and delete is the host's word
      await until('the switch is durable', async () => ((await vm.probe.status())?.journal?.phase === 'committed' ? true : undefined));
      await vm.goesOn(1);
      process.kill(old.daemonPid, 'SIGSTOP');
    }
    try {
      const hungSince = performance.now();
      await until('it hung for a while', async () => {
        expect(await asks(vm)).toMatchObject({ Outcome: 'Running' });
        return performance.now() - hungSince > HANG_MS || undefined;
      });
      const { warnings } = await stop(vm);
      expect(warnings.join()).toMatch(/uses its new files already; the move is completed/);
      expectUnfelt('ext4, a source that hangs', await meter.end());
    } finally {
      process.kill(old.daemonPid, 'SIGCONT');
    }
    await moving;
    expect(filesBelow(old.path)).not.toContain(source);
  });

  it('hangs before anything of it is known: whoever asked for moves there may stop, and all else goes on meanwhile', async () => {
    const { vm } = places[0]!;
    await using disk = await DaemonDisk.mount(join(instance.folder, 'unknown'), SIZE_BYTES.ext4);
    const source = await sourceOf(vm);
    {
      using _ = standStill(disk.daemonPid);
      const stops = new AbortController();
      // More than Node has threads for files by itself: each waits in the kernel for the first block of that folder.
      const asked = Array.from({ length: 6 }, (unused, n) => {
        const bound = { Name: vm.name, DestinationStoragePath: join(disk.path, `to${n}`) };
        return reasonOf(instance.run('Move-VMStorage', bound, { stop: stops.signal }));
      });
      await until('one of them waits', () => standingThreads(instance.hostPid, '').length > 0 || undefined);
      await asks(vm);
      await instance.run('Set-VM', { Name: [vm.name], Notes: 'written to a file' }, { signal: AbortSignal.timeout(20_000) });
      stops.abort();
      for (const reason of await Promise.all(asked)) expect(reason).toMatch(/^OperationStopped: /);
    }
    await move(vm, join(own.path, 'known'));
    expect(await sourceOf(vm)).not.toBe(source);
  });

  it('has answered whoever asked or stopped, in time', () => {
    expect(slowest.answerMs).toBeLessThan(2 * ANSWER_MOST_MS); // two questions
    expect(slowest.stopMs).toBeLessThan(STOP_MOST_MS);
  });

  it('lets a second move through, and tmpfs beside it, with every block right', async () => {
    await onAll(async ({ kind, vm, slow }) => {
      await move(vm, kind === 'ext4' ? join(own.path, 'memory') : slow.path);
      await vm.stopAndCheck();
    });
  });
});
