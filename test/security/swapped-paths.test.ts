/**
 * Paths that are exchanged under a host that runs as root, by the ordinary user whose machine it is and in whose folder its files lie.
 * Each test holds host or worker at the very moment, or lets the user exchange names without end.
 */
import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { administeredBy, runAs } from '../support/administrator.js';
import { Instance, type Refusal } from '../support/instance.js';
import { lacksOrdinaryUser, OrdinaryUser } from '../support/ordinary-user.js';
import { StopPoints } from '../support/stop-points.js';
import { makeVictim } from '../support/victim.js';
import { WorkerProbe } from '../support/worker-probe.js';

const DISK_BYTES = 1 << 20;

describe.skipIf(lacksOrdinaryUser())('a path that its owner exchanges', () => {
  let user: OrdinaryUser;
  let instance: Instance;
  let points: StopPoints;
  let [theirs, roots, rootsDisks] = ['', '', ''];

  beforeEach(async () => {
    user = await OrdinaryUser.create();
    instance = await Instance.start('swapped', async (made) => {
      points = StopPoints.for(made);
      administeredBy(made, user);
    });
    theirs = user.own(join(instance.folder, 'theirs'));
    roots = join(instance.folder, 'roots');
    rootsDisks = join(instance.folder, 'fast');
    for (const folder of [roots, rootsDisks]) await mkdir(folder, { mode: 0o700 });
  });
  afterEach(async () => {
    await instance[Symbol.asyncDispose]();
    await user[Symbol.asyncDispose]();
  });

  const content = (letter: string): Buffer => Buffer.alloc(DISK_BYTES, letter);

  /** A machine of the user with one raw disk in `folder`. */
  async function machineIn(folder: string): Promise<{ id: string; disk: string }> {
    await user.sh('mkdir -p "$1"', folder);
    const disk = join(folder, 'a.img');
    await user.sh('head -c "$2" /dev/zero | tr "\\0" d > "$1"', disk, String(DISK_BYTES));
    const bound = { Name: 'web01', Path: theirs, VHDPath: disk, Generation: 2 };
    const [vm] = await runAs(instance, user, 'New-VM', bound, 'Existing VHD');
    return { id: String(vm!['Id']), disk };
  }

  const worker = (id: string) => (): number | null => new WorkerProbe(instance.paths.workerSocket(id)).pid;
  const host = (): number => instance.hostPid;
  const drives = async (): Promise<unknown> =>
    (await instance.run('Get-VMHardDiskDrive', { VMName: 'web01' })).map((drive) => drive['Path']);
  const settled = (move: Promise<unknown>): Promise<Refusal | null> =>
    move.then(
      () => null,
      (error: Refusal) => error,
    );

  /** Moves the one disk, and holds whoever `pidOf` names at `point` for as long as `swap` takes. */
  async function moveWith(disk: string, target: string, point: string, pidOf: () => number | null, swap: () => Promise<unknown>) {
    points.arm(point);
    const Vhds = [{ SourceFilePath: disk, DestinationFilePath: target }];
    const move = settled(instance.run('Move-VMStorage', { Name: 'web01', Vhds }, { set: 'NameMultipleDestinations' }));
    const pid = await points.reached(point, pidOf, move);
    await swap();
    points.goOn(pid);
    return move;
  }

  it('is not reopened: a fresh target that became a link leaves the file behind the link alone, and the disk where it was', async () => {
    const { id, disk } = await machineIn(join(theirs, 'slow'));
    const victim = await makeVictim(join(roots, 'a.img'), 'r'.repeat(DISK_BYTES));
    const before = victim.look();
    const target = join(user.own(join(theirs, 'fast')), 'a.img');
    const refused = await moveWith(disk, target, 'target:created', worker(id), () =>
      user.sh('mv "$1" "$1.away" && ln -s "$2" "$1"', target, victim.path),
    );
    expect(victim.look()).toEqual(before);
    expect(refused?.message).toMatch(/not at its place/);
    expect(await drives()).toEqual([disk]);
    expect(readFileSync(disk).equals(content('d'))).toBe(true);
    // What lies at the place is not ours, and stays; another move goes elsewhere.
    expect(lstatSync(target).isSymbolicLink()).toBe(true);
    const again = [{ SourceFilePath: disk, DestinationFilePath: join(rootsDisks, 'a.img') }];
    await instance.run('Move-VMStorage', { Name: 'web01', Vhds: again }, { set: 'NameMultipleDestinations' });
    expect(readFileSync(join(rootsDisks, 'a.img')).equals(content('d'))).toBe(true);
  });

  it('is not used by name again: a folder that the move has made and that became a link gets no configuration', async () => {
    await machineIn(join(theirs, 'slow'));
    const destination = user.own(join(theirs, 'new'));
    points.arm('host:folders');
    const move = settled(instance.run('Move-VMStorage', { Name: 'web01', DestinationStoragePath: destination }));
    const pid = await points.reached('host:folders', host, move);
    await user.sh(
      'for name in Machines "Hard Disks"; do mv "$1/Virtual $name" "$1/$name"; ln -s "$2" "$1/Virtual $name"; done',
      destination,
      roots,
    );
    points.goOn(pid);
    const refused = await move;
    expect(readdirSync(roots)).toEqual([]);
    expect(refused?.code).toBe('UnsafeFolder');
    expect(refused?.message).toMatch(/'.*Virtual Machines' is a symbolic link of vmstorage-test-/);
    expect(await drives()).toEqual([join(theirs, 'slow', 'a.img')]);
  });

  it('is not resolved again: a source whose folder became a link is not deleted where the link leads', async () => {
    const { disk } = await machineIn(join(theirs, 'slow'));
    const victim = await makeVictim(join(roots, 'a.img'));
    const before = victim.look();
    const folder = join(theirs, 'slow');
    const refused = await moveWith(disk, join(rootsDisks, 'a.img'), 'host:sourceChecked', host, () =>
      user.sh('mv "$1" "$1.away" && ln -s "$2" "$1"', folder, roots),
    );
    expect(victim.look()).toEqual(before);
    // The switch was durable: the machine is on the target, and the source, which was held, is gone from where it went.
    expect(refused).toBeNull();
    expect(await drives()).toEqual([join(rootsDisks, 'a.img')]);
    expect(readdirSync(`${folder}.away`)).toEqual([]);
  });

  it('is not resolved twice: names that are exchanged without end, under move after move, cost root no file', async () => {
    const folder = join(theirs, 'slow');
    const victim = await makeVictim(join(roots, 'a.img'));
    const before = victim.look();
    await machineIn(folder);
    await user.sh('ln -s "$2" "$1.link"', folder, roots);
    for (let round = 0; round < 12; round++) {
      const from = String(((await drives()) as string[])[0]);
      const to = from.startsWith(theirs) ? join(rootsDisks, 'a.img') : join(folder, 'a.img');
      await using _ = user.exchange(folder, `${folder}.link`);
      const Vhds = [{ SourceFilePath: from, DestinationFilePath: to }];
      await settled(instance.run('Move-VMStorage', { Name: 'web01', Vhds }, { set: 'NameMultipleDestinations' }));
      expect(victim.look()).toEqual(before);
      expect(readdirSync(roots)).toEqual(['a.img']);
    }
    // Whatever became of the moves, the disk is where the machine looks for it.
    if (!lstatSync(folder).isDirectory()) await user.sh('mv "$1" "$1.x"; mv "$1.link" "$1"', folder);
    expect(readFileSync(((await drives()) as string[])[0]!).equals(content('d'))).toBe(true);
  });
});
