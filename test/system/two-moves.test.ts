/**
 * Several moves at one host: how many at a time, in which order, who may end one and who may not, and space that is promised once.
 * The VMs are off; a worker that stands still (SIGSTOP) holds its move in the middle for as long as the test needs it there.
 */
import { renameSync, statfsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Instance } from '../support/instance.js';
import { filesBelow, Machine, reasonOf } from '../support/machine.js';
import { mountTmpfs } from '../support/mounts.js';
import { lacks } from '../support/requires.js';
import { standStill } from '../support/stand-still.js';
import { until } from '../support/until.js';

const names = ['one', 'two', 'three'] as const;

describe.skipIf(lacks('qemu-img', 'guest'))('moves beside each other', () => {
  let instance: Instance;
  const vms: Machine[] = [];
  const held: Disposable[] = [];
  const at = (...place: string[]): string => join(instance.folder, ...place);
  const [one, two, three] = [(): Machine => vms[0]!, (): Machine => vms[1]!, (): Machine => vms[2]!];
  const diskAt = (vm: Machine, place: string): string => join(at(place), 'Virtual Hard Disks', basename(vm.disks[0]!));

  beforeAll(async () => {
    instance = await Instance.start('two');
    for (const name of names) vms.push(await Machine.create(instance, { name, folder: at('start'), disks: [`${name}.img`] }));
  });
  afterEach(() => {
    for (const one of held.splice(0)) one[Symbol.dispose]();
  });
  afterAll(async () => {
    for (const vm of vms) await vm[Symbol.asyncDispose]();
    await instance?.[Symbol.asyncDispose]();
  });

  /** Begins a move and holds it in its copy. `release` lets it go on. */
  async function moveAndHold(vm: Machine, to: string, stop?: AbortSignal): Promise<{ moving: Promise<unknown>; release: () => void }> {
    const moving = vm.move(to, stop === undefined ? {} : { stop });
    moving.catch(() => undefined); // told by whoever awaits it
    expect(await vm.probe.inPhase(['copy', 'mirror', 'verify'], moving)).not.toBeNull();
    const hold = standStill(vm.probe.pid!);
    held.push(hold);
    return { moving, release: () => hold[Symbol.dispose]() };
  }
  const phases = async (): Promise<Record<string, unknown>> => {
    const moves = await instance.run('Get-VMStorageMove', {});
    return Object.fromEntries(moves.filter((move) => move['EndTime'] === null).map((move) => [String(move['VMName']), move['Phase']]));
  };
  const queued = (vm: Machine): Promise<true> =>
    until(`${vm.name} waits`, async () => ((await phases())[vm.name] === 'queued' ? true : undefined));

  it('run as many at a time as MaximumStorageMigrations says; the others wait in order', async () => {
    await instance.run('Set-VMHost', { MaximumStorageMigrations: 1 });
    const first = await moveAndHold(one(), at('a'));
    const order: string[] = [];
    const second = two().move(at('a'), { prefs: { progress: true } });
    void second.then(() => order.push('two'));
    await queued(two());
    const third = three().move(at('a'));
    void third.then(() => order.push('three'));
    await queued(three());
    expect(await phases()).toEqual({ one: expect.stringMatching(/copy|mirror|verify/) as string, two: 'queued', three: 'queued' });
    expect((await two().get())['Status']).toBe('Waiting to move storage');
    expect(filesBelow(at('a')).map((path) => basename(path))).not.toContain('two.img');
    first.release();
    await Promise.all([first.moving, second, third]);
    expect(order).toEqual(['two', 'three']);
    expect((await second).progress.some(({ status }) => /queued: 1 in line/.test(status))).toBe(true);
    for (const vm of vms) expect(await vm.diskPaths()).toEqual([diskAt(vm, 'a')]);
  });

  it('start as soon as the limit is raised', async () => {
    const first = await moveAndHold(one(), at('b'));
    const second = two().move(at('b'));
    await queued(two());
    await instance.run('Set-VMHost', { MaximumStorageMigrations: 2 });
    await second;
    expect(await phases()).toEqual({ one: expect.any(String) as string });
    first.release();
    await first.moving;
  });

  it('are refused for a VM that is moving, and its disk and itself cannot be taken away meanwhile', async () => {
    const first = await moveAndHold(one(), at('c'));
    expect(await instance.refusal('Move-VMStorage', { Name: 'one', DestinationStoragePath: at('elsewhere') })).toMatchObject({
      code: 'ObjectInUse',
      category: 'ResourceBusy',
    });
    const drive = { VMName: 'one', ControllerType: 'IDE', ControllerNumber: 0, ControllerLocation: 0 };
    expect(await instance.refusal('Remove-VMHardDiskDrive', drive)).toMatchObject({ code: 'ObjectInUse' });
    expect(await instance.refusal('Remove-VM', { Name: ['one'], Force: true })).toMatchObject({ code: 'ObjectInUse' });
    expect(await instance.refusal('Set-VM', { Name: ['one'], NewVMName: 'other' })).toMatchObject({ code: 'ObjectInUse' });
    first.release();
    await first.moving;
    expect(await one().diskPaths()).toEqual([diskAt(one(), 'c')]);
    expect(filesBelow(at('elsewhere'))).toEqual([]);
  });

  it('end where they began when Stop-VMStorageMove stops a waiting and a running one, and work the next time', async () => {
    await instance.run('Set-VMHost', { MaximumStorageMigrations: 1 });
    const before = filesBelow(at('b'));
    const first = await moveAndHold(three(), at('d'));
    const second = two().move(at('d'));
    const secondEnds = reasonOf(second);
    await queued(two());
    await instance.run('Stop-VMStorageMove', { Name: ['two'] });
    expect(await secondEnds).toMatch(/^OperationStopped: /);
    expect(await phases()).toEqual({ three: expect.any(String) as string });
    const firstEnds = reasonOf(first.moving);
    const stopping = instance.run('Stop-VMStorageMove', { Name: ['three'] });
    first.release();
    await stopping;
    expect(await firstEnds).toMatch(/^OperationStopped: /);
    expect(filesBelow(at('d'))).toEqual([]);
    expect(filesBelow(at('b'))).toEqual(before);
    expect(await two().diskPaths()).toEqual([diskAt(two(), 'b')]);
    expect(await three().diskPaths()).toEqual([diskAt(three(), 'a')]);
    expect(await instance.refusal('Stop-VMStorageMove', { Name: ['two'] })).toMatchObject({ code: 'InvalidState' });
    await three().move(at('d'));
    await two().move(at('d'));
  });

  it('are stopped by Ctrl+C of their client, waiting or running', async () => {
    const [stopFirst, stopSecond] = [new AbortController(), new AbortController()];
    const first = await moveAndHold(two(), at('e'), stopFirst.signal);
    const second = three().move(at('e'), { stop: stopSecond.signal });
    const secondEnds = reasonOf(second);
    await queued(three());
    stopSecond.abort();
    expect(await secondEnds).toMatch(/^OperationStopped: /);
    const firstEnds = reasonOf(first.moving);
    stopFirst.abort();
    first.release();
    expect(await firstEnds).toMatch(/^OperationStopped: /);
    expect(filesBelow(at('e'))).toEqual([]);
    expect(await two().diskPaths()).toEqual([diskAt(two(), 'd')]);
  });

  it('go on when their client vanishes', async () => {
    const vanish = new AbortController();
    const moving = one().move(at('f'), { signal: vanish.signal });
    const lost = reasonOf(moving); // the client's own word for having given up
    expect(await one().probe.inPhase(['copy', 'mirror', 'verify'], moving)).not.toBeNull();
    const moveId = String((await one().lastMove())!['MoveId']);
    vanish.abort();
    expect(await lost).toMatch(/^OperationStopped: /);
    expect(await one().moveEnds(moveId)).toMatchObject({ Outcome: 'Completed' });
    expect(await one().diskPaths()).toEqual([diskAt(one(), 'f')]);
  });

  it('are told that nothing was begun if they wait when the host is stopped, and shown from the first answer of the next one if they run', async () => {
    await instance.run('Set-VMHost', { MaximumStorageMigrations: 1 });
    const first = await moveAndHold(one(), at('h'));
    const firstEnds = reasonOf(first.moving);
    const moveId = String((await one().lastMove())!['MoveId']);
    const secondEnds = reasonOf(two().move(at('h')));
    await queued(two());
    await instance.stopHost();
    expect(await secondEnds).toMatch(/^OperationStopped: Storage migration .*Nothing was begun, and nothing was changed\./);
    expect(await firstEnds).toMatch(/^HostConnectionLost: /);
    expect(filesBelow(at('h')).map((path) => basename(path))).not.toContain('two.img');
    // Its worker stands still: whatever is shown of it is what the new host knows by itself.
    await instance.startHost();
    expect(await phases()).toEqual({ one: 'copy' });
    first.release();
    expect(await one().moveEnds(moveId)).toMatchObject({ Outcome: 'Completed' });
    expect(await one().diskPaths()).toEqual([diskAt(one(), 'h')]);
    await two().move(at('h'));
  });

  it('leave their place to others while their worker cannot be started again, and are stopped as soon as it can', async () => {
    await instance.run('Set-VMHost', { MaximumStorageMigrations: 1 });
    const source = (await one().diskPaths())[0]!;
    const first = await moveAndHold(one(), at('i'));
    const firstEnds = reasonOf(first.moving);
    renameSync(source, `${source}.away`); // no worker can serve it now
    one().probe.kill();
    const second = two().move(at('i'));
    await queued(two());
    await second;
    expect(await two().diskPaths()).toEqual([diskAt(two(), 'i')]);
    const [move] = await instance.run('Get-VMStorageMove', { Name: ['one'] });
    expect(move).toMatchObject({ EndTime: null, Message: expect.stringContaining('Its storage worker does not answer') as string });
    const stopping = await instance.collect('Stop-VMStorageMove', { Name: ['one'] });
    expect(stopping.warnings).toEqual([expect.stringContaining('It is told to stop the move as soon as it does')]);
    expect(await instance.refusal('Move-VMStorage', { Name: 'one', DestinationStoragePath: at('j') })).toMatchObject({
      code: 'ObjectInUse',
    });
    renameSync(`${source}.away`, source);
    expect(await firstEnds).toMatch(/^OperationStopped: /);
    expect(await one().diskPaths()).toEqual([source]);
    expect(filesBelow(at('i')).map((path) => basename(path))).not.toContain('one.img');
    await one().move(at('i'));
  });

  describe.skipIf(lacks('root'))('to one file system', () => {
    it('cannot both count on its space: the second is refused before anything is written, and works once the first is over', async () => {
      await instance.run('Set-VMHost', { MaximumStorageMigrations: 2 });
      await mkdir(at('small'));
      // Room for one disk of 512 MiB, not for two.
      await using small = await mountTmpfs(at('small'), 'size=768m');
      const first = await moveAndHold(one(), small.path);
      const seen = filesBelow(small.path);
      expect(await instance.refusal('Move-VMStorage', { Name: 'two', DestinationStoragePath: small.path })).toMatchObject({
        code: 'NoSpace',
        category: 'ResourceUnavailable',
      });
      expect(filesBelow(small.path)).toEqual(seen);
      first.release();
      await first.moving;
      await one().move(at('g'));
      await until('the space is free', () =>
        statfsSync(small.path).bavail * statfsSync(small.path).bsize > 600 * 2 ** 20 ? true : undefined,
      );
      await two().move(small.path);
      await two().move(at('g'));
    });
  });

  it('leave no worker behind', async () => {
    await until('only the host is left', () => (instance.processes.length === 1 ? true : undefined));
  });
});
