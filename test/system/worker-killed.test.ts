/**
 * kill -9 of the worker, twenty times in the life of one QEMU process with four processors and so four queues per disk, and of the host: the
 * guest sees no error and loses nothing.
 *
 * ```text
 * idle ─ in the handshake ─┬─ copy ─ mirror ─ verify ─ after the switch ─┬─ end: every byte
 *                          └──────────── and back, again and again ──────┘
 * ```
 */
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { MovePhase } from '../../src/model/move.js';
import { Instance } from '../support/instance.js';
import { filesBelow, Machine, reasonOf } from '../support/machine.js';
import { lacks } from '../support/requires.js';
import { until } from '../support/until.js';

const KILLS_WANTED = 20;
/** As fast as it can, so that every kill finds requests in flight. */
const GUEST = 'w.span=64 w.qd=8 w.fsync=16';
const PROCESSORS = 4;

describe.skipIf(lacks('qemu-system-x86_64', 'qemu-img', 'guest'))('a guest whose worker is killed', () => {
  let instance: Instance;
  let vm: Machine;
  let qemuPid = 0;
  /** Where its storage is, and where it goes next. */
  let here = 'a';
  const kills: string[] = [];
  const at = (place: string): string => join(instance.folder, place);
  const disksAt = (place: string): string[] => vm.disks.map((path) => join(at(place), 'Virtual Hard Disks', basename(path)));

  /** Kills the worker if there is one; its process is gone when this resolves. */
  async function kill(when: string): Promise<void> {
    const pid = await until('a worker to kill', () => vm.probe.kill() ?? undefined);
    kills.push(when);
    await until('the worker is dead', () => (vm.probe.pid !== pid ? true : undefined));
  }

  async function expectServing(): Promise<void> {
    await vm.probe.serves(2, qemuPid);
    await vm.console.goesOn(1, 60_000);
    vm.expectNoGuestError();
    expect(vm.qemuPid).toBe(qemuPid);
  }

  /** Restarts wait longer each time a worker dies soon; a new host begins anew, and its own death is part of the story. */
  async function anotherHost(): Promise<void> {
    await instance.killHost();
    await instance.startHost();
  }

  /** Moves to the other place and kills the worker when the move is first seen in one of each of `phases`. */
  async function moveWithKills(...phases: readonly (readonly MovePhase[])[]): Promise<void> {
    const there = here === 'b' ? 'c' : 'b';
    const moving = vm.move(at(there));
    moving.catch(() => undefined); // told below
    for (const some of phases) {
      const found = await vm.probe.inPhase(some, moving);
      if (found === null) break;
      await kill(found);
    }
    await moving;
    here = there;
  }

  beforeAll(async () => {
    instance = await Instance.start('kills');
    vm = await Machine.create(instance, { name: 'killed', folder: at('a'), processors: PROCESSORS, guest: GUEST });
    await vm.start();
    qemuPid = vm.qemuPid;
  });
  afterAll(async () => {
    await vm?.[Symbol.asyncDispose]();
    await instance?.[Symbol.asyncDispose]();
  });

  it('has a queue of each disk for each of its processors', () => {
    expect(vm.console.lines.find((line) => line.ev === 'ready')).toMatchObject({ cpus: PROCESSORS });
    const disks = vm.console.lines.flatMap((line) => (line.ev === 'disk' ? [{ disk: line.disk, queues: line.queues }] : []));
    expect(disks).toEqual(['vda', 'vdb'].map((disk) => ({ disk, queues: PROCESSORS })));
  });

  it('goes on when it dies in quiet service', async () => {
    for (let round = 0; round < 3; round++) {
      await kill('service');
      await expectServing();
    }
    expect((await vm.get())['Status']).toBe('Operating normally');
  });

  it('goes on when each successor dies at once: as a process, as it listens, as QEMU connects, inside the handshake', async () => {
    await anotherHost();
    await kill('service');
    await kill('as a process');
    await until('the next worker listens', async () => ((await vm.probe.status()) ? true : undefined));
    await kill('as it listens');
    await until('the next worker has a disk', async () => ((await vm.probe.status())?.disks.length ? true : undefined));
    await kill('as it serves');
    await until('QEMU connects', async () =>
      (await vm.probe.status())?.disks.some((disk) => disk.peerPid === qemuPid) ? true : undefined,
    );
    await kill('inside the handshake');
    await until('QEMU connects', async () =>
      (await vm.probe.status())?.disks.some((disk) => disk.peerPid === qemuPid) ? true : undefined,
    );
    await kill('inside the handshake');
    await expectServing();
  });

  it('is moved although its worker dies in the copy, twice', async () => {
    await anotherHost();
    await moveWithKills(['copy'], ['copy', 'mirror']);
    await expectServing();
    expect(await vm.diskPaths()).toEqual(disksAt(here));
  });

  it('is moved although its worker dies while it mirrors, verifies and releases', async () => {
    for (const phases of [
      [['mirror'], ['verify']],
      [['verify'], ['verify']],
      [['synchronized', 'switch', 'release', 'cleanUp']],
    ] as const) {
      await anotherHost();
      await moveWithKills(...phases);
      await expectServing();
      expect(await vm.diskPaths()).toEqual(disksAt(here));
    }
  });

  it('goes on when its worker dies right after the switch', async () => {
    await anotherHost();
    await moveWithKills();
    await kill('after the switch');
    await expectServing();
  });

  it('is moved by the same worker and QEMU when the host is killed in mid-move', async () => {
    const there = here === 'b' ? 'c' : 'b';
    const moving = vm.move(at(there));
    const lost = reasonOf(moving);
    await vm.probe.inPhase(['copy', 'mirror', 'verify'], moving);
    const workerPid = vm.probe.pid;
    const moveId = String((await vm.lastMove())!['MoveId']);
    await instance.killHost();
    expect(await lost).toMatch(/^HostConnectionLost: /);
    await vm.console.goesOn(1);
    await instance.startHost();
    expect(await vm.moveEnds(moveId)).toMatchObject({ Outcome: 'Completed' });
    here = there;
    expect(await vm.diskPaths()).toEqual(disksAt(there));
    expect(vm.probe.pid).toBe(workerPid);
    await expectServing();
  });

  it(`survived at least ${KILLS_WANTED} kills in one QEMU process, and every byte of its disks is right`, async () => {
    await anotherHost();
    while (kills.length < KILLS_WANTED) {
      await kill('service');
      await expectServing();
    }
    console.log(`${kills.length} kills: ${kills.join(', ')}`);
    expect(kills).toEqual(expect.arrayContaining(['service', 'inside the handshake', 'copy', 'after the switch']));
    expect(vm.qemuPid).toBe(qemuPid);
    await vm.stopAndCheck(disksAt(here));
    const loaded = vm.console.lines.flatMap((line) => (line.ev === 'queues' ? [line.interrupts] : []));
    expect(loaded.map((interrupts) => interrupts.filter((count) => count > 0).length)).toEqual([PROCESSORS, PROCESSORS]);
    for (const place of ['a', 'b', 'c'].filter((name) => name !== here)) expect(filesBelow(at(place))).toEqual([]);
  });
});
