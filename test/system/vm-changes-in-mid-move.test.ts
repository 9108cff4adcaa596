/** A move survives what happens to its VM meanwhile: each change is made in mid-move, the move ends well, and a second one works. */
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { verifyGuestImage } from '../../scripts/verify-guest-image.js';
import { versionTables } from '../support/guest-lines.js';
import { Instance } from '../support/instance.js';
import { filesBelow, Machine } from '../support/machine.js';
import { lacks } from '../support/requires.js';
import { until } from '../support/until.js';

/** A small span, so that the guest reads it back quickly; its versions are told each second, for the guest that is killed. */
const GUEST = 'w.span=8 w.qd=4 w.iops=300 w.fsync=4 w.table=1';
const underWay = ['copy', 'mirror', 'verify'] as const;

describe.skipIf(lacks('qemu-system-x86_64', 'qemu-img', 'guest'))('a move whose virtual machine', () => {
  let instance: Instance;
  let vm: Machine;
  let here = 'a';
  const at = (place: string): string => join(instance.folder, place);
  const disksAt = (place: string): string[] => vm.disks.map((path) => join(at(place), 'Virtual Hard Disks', basename(path)));

  /** Moves, does `change` once the move is under way, and sees the move end well. */
  async function inMidMove(change: (moving: Promise<unknown>) => Promise<void>): Promise<void> {
    const there = here === 'b' ? 'c' : 'b';
    const moving = vm.move(at(there));
    moving.catch(() => undefined); // told below
    expect(await vm.probe.inPhase(underWay, moving)).not.toBeNull();
    await change(moving);
    await moving;
    here = there;
    expect(await vm.diskPaths()).toEqual(disksAt(here));
    for (const place of ['a', 'b', 'c'].filter((name) => name !== here)) expect(filesBelow(at(place))).toEqual([]);
  }

  async function expectStillMoving(): Promise<void> {
    expect(await vm.lastMove()).toMatchObject({ Outcome: 'Running' });
  }

  beforeAll(async () => {
    instance = await Instance.start('changes');
    vm = await Machine.create(instance, { name: 'changed', folder: at('a'), guest: GUEST });
    await vm.start();
  });
  afterAll(async () => {
    await vm?.[Symbol.asyncDispose]();
    await instance?.[Symbol.asyncDispose]();
  });

  it('is paused and continued goes on in both states', async () => {
    await inMidMove(async () => {
      await vm.monitor('stop');
      await vm.is('Paused');
      await expectStillMoving();
      await vm.monitor('cont');
      await vm.is('Running');
    });
    await vm.console.goesOn(1);
    vm.expectNoGuestError();
  });

  it('is paused to its end comes to its end', async () => {
    await inMidMove(async (moving) => {
      await vm.monitor('stop');
      await moving;
    });
    await vm.is('Paused');
    await vm.monitor('cont');
    await vm.console.goesOn(1);
    vm.expectNoGuestError();
  });

  it('reboots goes on under the next boot, which finds everything it wrote', async () => {
    const from = vm.console.here;
    const boots = vm.console.lines.filter((line) => line.ev === 'ready').length;
    await inMidMove(async () => {
      await vm.monitor('send-key', { keys: ['ctrl', 'alt', 'delete'].map((data) => ({ type: 'qcode', data })) });
      await vm.console.waitForLine('stopping', 30_000, from);
      await expectStillMoving();
    });
    const { verified } = await vm.console.done(from);
    await vm.console.ready(boots + 1);
    const found = vm.console.lines.slice(from).flatMap((line) => (line.ev === 'disk' ? [line] : []));
    expect(found.map(({ adopted, bad }) => ({ adopted, bad }))).toEqual(verified.map(({ blocks }) => ({ adopted: blocks, bad: 0 })));
    await vm.console.goesOn(1);
    vm.expectNoGuestError();
  });

  it('is reset, its requests in flight forgotten, goes on', async () => {
    const boots = vm.console.lines.filter((line) => line.ev === 'ready').length;
    await inMidMove(async () => {
      await vm.monitor('system_reset');
      await expectStillMoving();
    });
    await vm.console.ready(boots + 1);
    await vm.console.goesOn(1);
    vm.expectNoGuestError();
    expect((await vm.get())['State']).toBe('Running');
  });

  it('is shut down goes on as the move of one that is off, and every byte is right', async () => {
    const from = vm.console.here;
    await inMidMove(async () => {
      const stopped = instance.run('Stop-VM', { Name: [vm.name] });
      stopped.catch(() => undefined);
      await vm.console.waitForLine('stopping', 30_000, from);
      await expectStillMoving();
      await stopped;
    });
    await vm.checkDone(from, disksAt(here));
    await until('its worker has ended', () => (vm.probe.pid === null ? true : undefined));
  });

  it('is started while its disks move is there for the guest', async () => {
    await inMidMove(async () => {
      const started = vm.start();
      started.catch(() => undefined);
      await vm.is('Running');
      await expectStillMoving();
      await started;
    });
    await vm.probe.serves(2, vm.qemuPid);
    await vm.console.goesOn(1);
    vm.expectNoGuestError();
  });

  it('has its QEMU killed goes on, and nothing that was acknowledged is lost', async () => {
    const from = vm.console.here;
    await vm.console.waitFor(
      'the versions of both disks',
      (lines) => lines.slice(from).filter((line) => line.ev === 'table').length >= 2 || undefined,
      30_000,
    );
    await inMidMove(async () => {
      process.kill(vm.qemuPid, 'SIGKILL');
      await vm.is('Off');
      await expectStillMoving();
    });
    const table = versionTables(vm.console.lines.slice(vm.startedAt)).find(({ disk }) => disk === 'vdb')!;
    expect(table.final).toBe(false);
    expect(verifyGuestImage(disksAt(here)[1]!, table)).toMatchObject({ blocksWrong: 0, blocksUnsure: 0 });
    await vm.start();
    await vm.console.goesOn(1);
    vm.expectNoGuestError();
  });

  it('went through all that has every byte right', async () => {
    await inMidMove(() => vm.console.goesOn(1));
    await vm.stopAndCheck(disksAt(here));
  });
});
