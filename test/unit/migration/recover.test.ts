/** Where an interrupted move goes on, and what is deleted when the file system has its own ideas. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { bornAfter, readIdentity, sameFile, writeIdentity } from '../../../src/os/file-identity.js';
import type { LedgerEntry } from '../../../src/migration/ledger.js';
import { continuation } from '../../../src/migration/recover.js';
import type { FileFacts, MoveFiles } from '../../../src/migration/ports.js';
import { RECEIPTS_KEPT, Receipts } from '../../../src/migration/receipts.js';
import { Tracker, freshStatus, statusLine } from '../../../src/migration/progress.js';
import { ownFiles } from '../../../src/migration/files.js';
import { VmStorageError } from '../../../src/model/errors.js';
import { Steps, World, allOver, reached, toFolder, vmId } from './world.js';

const journals = [null, 'started', 'copy', 'mirror', 'verify', 'prepared', 'cancelled', 'committed', 'released', 'deleted'] as const;

test('every pair of ledger and journal has one way to go on', () => {
  const entry = (state: LedgerEntry['state']) =>
    ({ state, reason: null, plan: { moveId: 'm', vmName: 'web01', bootId: 'b1', disks: [{}] } }) as unknown as LedgerEntry;
  // What goes with it: the registry names the targets once there is no journal any more behind COMMITTED.
  const way = (state: LedgerEntry['state'], journal: (typeof journals)[number], boot: string): string => {
    const registry = state === 'committed' && journal === null ? 'target' : 'source';
    try {
      return continuation(entry(state), journal, boot, { registry, begun: false }).from;
    } catch {
      return 'alone';
    }
  };
  const table = (boot: string) =>
    ['open', 'committed', 'undoing'].map((state) => journals.map((journal) => way(state as LedgerEntry['state'], journal, boot)).join(' '));
  expect(table('b1')).toEqual([
    'undo follow follow follow follow follow follow release release release',
    'release alone alone alone alone alone alone release release release',
    'undo undo undo undo undo undo undo alone alone alone',
  ]);
  expect(table('b2')).toEqual([
    'undo undo undo undo undo undo undo release release release',
    'release alone alone alone alone alone alone release release release',
    'undo undo undo undo undo undo undo alone alone alone',
  ]);
});

describe('on disk', () => {
  let world: World;
  beforeEach(() => void (world = new World()));
  afterEach(() => world.destroy());

  /** A new host, not started yet, over a move that was mirroring when the last one was killed. */
  async function interrupted() {
    world.worker.holdAt = 'verify';
    const steps = new Steps();
    const first = world.host(steps);
    const job = (await first.moves.submit(first.ports.registry.byId(vmId)!, toFolder(world.fast)))!;
    await reached(() => world.worker.steps.includes('mirror'));
    await steps.kill();
    world.worker.listeners.clear();
    return { id: job.id, ...world.host() };
  }

  test('a host that is killed in mid-move finds it running, and it completes', async () => {
    world.worker.holdAt = 'verify';
    const steps = new Steps();
    const first = world.host(steps);
    void first.moves.submit(first.ports.registry.byId(vmId)!, toFolder(world.fast));
    await reached(() => world.worker.steps.includes('mirror'));
    await steps.kill();
    world.worker.listeners.clear();
    const { moves, ports } = await world.restartHost();
    expect(ports.locks.isMoving(vmId)).toBe(true);
    expect(moves.of(vmId)?.state).toBe('running');
    world.worker.goOn();
    await allOver(moves);
    expect(world.configuration().path).toBe(world.fast);
  });

  test('an interrupted move is shown before its worker has told its journal, and goes on in the same job', async () => {
    const { id, moves, ports } = await interrupted();
    await moves.start();
    expect(moves.unfinished()).toMatchObject([{ id, subject: vmId, state: 'running', progress: { phase: 'copy', outcome: null } }]);
    expect(moves.planOf(id)?.vmName).toBe('web01');
    await moves.recover(ports.registry.byId(vmId)!, world.worker.status().journal);
    world.worker.goOn();
    await allOver(moves);
    expect(moves.finished()).toMatchObject([{ id, state: 'succeeded' }]);
    expect(world.configuration().path).toBe(world.fast);
  });

  test('an interrupted move that is stopped before its worker has told its journal is undone', async () => {
    const { moves, ports } = await interrupted();
    await moves.start();
    expect(moves.of(vmId)!.cancel(new VmStorageError('OperationStopped', 'stop'))).toBe('requested');
    await moves.recover(ports.registry.byId(vmId)!, world.worker.status().journal);
    await allOver(moves);
    expect(moves.finished()).toMatchObject([{ state: 'cancelled' }]);
    expect(fs.existsSync(world.fast)).toBe(false);
    expect(ports.locks.isMoving(vmId)).toBe(false);
  });

  test('a move whose records contradict each other is shown as failed, and its VM stays claimed', async () => {
    const { id, moves, ports } = await interrupted();
    const entry = (await moves.ledger.read(id))!;
    await moves.ledger.write({ ...entry, state: 'undoing' });
    await moves.start();
    await moves.recover(ports.registry.byId(vmId)!, { ...world.worker.status().journal!, phase: 'committed' });
    await allOver(moves);
    expect(moves.finished()).toMatchObject([{ state: 'failed', outcome: { error: { message: expect.stringContaining('contradict') } } }]);
    expect(ports.locks.isMoving(vmId)).toBe(true);
  });

  test("a move whose undoing waits beside another move's journal does not count as running, and the other goes on", async () => {
    const { id, moves, ports } = await interrupted();
    const entry = (await moves.ledger.read(id))!;
    const left = { ...entry, plan: { ...entry.plan, moveId: 'earlier', createdFolders: [] }, targets: [], configuration: null };
    await moves.ledger.write({ ...left, state: 'undoing', reason: 'The destination broke.' });
    await moves.ledger.remove(id);
    await moves.start();
    expect(moves.unfinished().map((job) => job.id)).toEqual(['earlier']);
    await moves.recover(ports.registry.byId(vmId)!, world.worker.status().journal);
    await reached(() => moves.finished().length > 0);
    expect(moves.finished()).toMatchObject([{ id: 'earlier', outcome: { error: { message: 'The destination broke.' } } }]);
    expect(moves.unfinished()).toMatchObject([{ id, state: 'running' }]);
    world.worker.goOn();
    await allOver(moves);
    expect(world.configuration().path).toBe(world.fast);
  });

  test('a host that is closed lets go of its move, and the next one completes it', async () => {
    world.worker.holdAt = 'verify';
    const first = world.host();
    const job = (await first.moves.submit(first.ports.registry.byId(vmId)!, toFolder(world.fast)))!;
    await reached(() => world.worker.steps.includes('mirror'));
    first.moves.close();
    const stepsBefore = first.steps.names.length;
    const { moves } = await world.restartHost();
    world.worker.goOn();
    await allOver(moves);
    expect(world.configuration().path).toBe(world.fast);
    expect(job.state).toBe('running');
    expect(first.steps.names).toHaveLength(stepsBefore);
  });

  test('targets without the journal that is made before them: the move is left alone, and nothing is deleted', async () => {
    const steps = new Steps();
    const first = world.host(steps);
    world.worker.dieAt = 'target 0';
    const died = reached(() => world.worker.pid === null).then(() => void (steps.dead = true));
    void first.moves.submit(first.ports.registry.byId(vmId)!, toFolder(world.fast)).catch(() => undefined);
    await died;
    world.worker.listeners.clear();
    fs.writeFileSync(world.journal(vmId), 'half a journ');
    await reached(() => world.worker.pid !== null);
    expect(world.files(world.fast)).toContain('Virtual Hard Disks/a.img');
    const { moves, ports } = await world.restartHost();
    await reached(() => moves.unfinished().length === 0);
    expect(world.files(world.fast)).toContain('Virtual Hard Disks/a.img');
    expect(ports.locks.isMoving(vmId)).toBe(true);
  });

  test('a destination that is unmounted in mid-move fails the move, is cleaned when it is back, and meanwhile a second move works', async () => {
    // Moving the folder aside is what an unmount looks like to path names; the device is told to differ, as it would.
    fs.mkdirSync(world.fast);
    let mounted = true;
    const { ports: plain } = world.host();
    const files = {
      ...plain.files,
      facts: async (at: string) => {
        const facts = await plain.files.facts(at);
        return !mounted && at === world.fast && facts ? { ...facts, device: facts.device + 1n } : facts;
      },
    };
    const { moves, ports } = world.host(undefined, { files });
    world.worker.holdAt = 'verify';
    const job = (await moves.submit(ports.registry.byId(vmId)!, toFolder(world.fast)))!;
    await reached(() => world.worker.steps.includes('mirror'));
    mounted = false;
    const aside = path.join(world.root, 'aside');
    fs.renameSync(world.fast, aside);
    fs.mkdirSync(world.fast);
    // Nobody tells: the engine writes on through its descriptors, and the host has to see it.
    expect(await job.finished()).toMatchObject({ state: 'failed', error: { code: 'StorageFailure' } });
    expect(moves.leftOver()).toEqual([job.id]);
    world.worker.holdAt = null;

    const second = (await moves.submit(ports.registry.byId(vmId)!, toFolder(path.join(world.root, 'third'))))!;
    expect(await second.finished()).toMatchObject({ state: 'succeeded' });

    expect(world.files(aside)).toContain('Virtual Hard Disks/a.img');
    fs.rmdirSync(world.fast);
    fs.renameSync(aside, world.fast);
    mounted = true;
    await allOver(moves);
    expect(world.files(world.fast)).toEqual([]);
    expect(fs.existsSync(path.join(world.root, 'third', 'Virtual Hard Disks', 'a.img'))).toBe(true);
  });

  test('a destination that others fill in mid-move fails the move before it is full, by disk and path, and a second move works', async () => {
    const { ports: plain } = world.host();
    let left = 2n ** 40n;
    const thin = (facts: FileFacts | null) => facts && { ...facts, allocatedBytes: 0n };
    const files: MoveFiles = {
      ...plain.files,
      // A thin disk of which nothing has reached the target yet.
      facts: async (at) => (at.startsWith(world.fast) ? thin(await plain.files.facts(at)) : plain.files.facts(at)),
      freeBytes: async (at) => (at.startsWith(world.fast) || at === world.root ? left : plain.files.freeBytes(at)),
    };
    const { moves, ports } = world.host(undefined, { files });
    world.worker.holdAt = 'verify';
    const job = (await moves.submit(ports.registry.byId(vmId)!, toFolder(world.fast)))!;
    await reached(() => world.worker.steps.includes('mirror'));
    left = 100n;
    const outcome = await job.finished();
    expect(outcome).toMatchObject({ state: 'failed', error: { code: 'NoSpace' } });
    const message = outcome.state === 'failed' ? outcome.error.message : '';
    for (const word of [path.join(world.slow, 'a.img'), path.join(world.fast, 'Virtual Hard Disks', 'a.img'), '100 bytes are free'])
      expect(message).toContain(word);
    await allOver(moves);
    expect(fs.existsSync(world.fast)).toBe(false);
    expect(world.configuration().disks[0]!.path).toBe(path.join(world.slow, 'a.img'));
    left = 2n ** 40n;
    world.worker.holdAt = null;
    const second = (await moves.submit(ports.registry.byId(vmId)!, toFolder(world.fast)))!;
    expect(await second.finished()).toMatchObject({ state: 'succeeded' });
  });

  test('a file system that comes back between two looks does not make its files count as deleted', async () => {
    // The target is not seen until the look at the folders has said that they are there.
    let hidden = false;
    const { ports: plain } = world.host();
    const target = path.join(world.fast, 'Virtual Hard Disks', 'a.img');
    const files = {
      ...plain.files,
      facts: async (at: string) => {
        if (hidden && at === target) return null;
        const facts = await plain.files.facts(at);
        if (hidden && at === path.dirname(target)) hidden = false;
        return facts;
      },
    };
    const { moves, ports } = world.host(undefined, { files });
    world.worker.holdAt = 'verify';
    const job = (await moves.submit(ports.registry.byId(vmId)!, toFolder(world.fast)))!;
    await reached(() => world.worker.steps.includes('mirror'));
    world.worker.keepTargets = true;
    hidden = true;
    world.worker.failNow('StorageFailure', 'the destination went away.');
    await job.finished();
    await allOver(moves);
    expect(world.files(world.fast)).toEqual([]);
  });

  test('a left-over destination is found again by the next host and does not disturb a later move of the VM', async () => {
    const { ports: plain } = world.host();
    const broken = { ...plain.files, deleteEmptyFolder: () => Promise.reject(Object.assign(new Error('io'), { code: 'EIO' })) };
    const steps = new Steps();
    const first = world.host(steps, { files: broken });
    world.worker.failAt = { phase: 'copy', code: 'StorageFailure', message: 'broke.' };
    const job = (await first.moves.submit(first.ports.registry.byId(vmId)!, toFolder(world.fast)))!;
    await job.finished();
    world.worker.failAt = null;
    world.worker.holdAt = 'verify';
    void first.moves.submit(first.ports.registry.byId(vmId)!, toFolder(path.join(world.root, 'third')));
    await reached(() => world.worker.steps.includes('mirror'));
    first.moves.close();
    await steps.kill();
    world.worker.listeners.clear();

    const { moves } = await world.restartHost();
    await reached(() => moves.leftOver().length === 0);
    expect(fs.existsSync(world.fast)).toBe(false);
    expect(moves.of(vmId)?.state).toBe('running');
    world.worker.goOn();
    await allOver(moves);
    expect(world.configuration().path).toBe(path.join(world.root, 'third'));
  });

  test('a foreign file that took the place of a target is not deleted by the undoing', async () => {
    world.worker.holdAt = 'verify';
    const { moves, ports } = world.host();
    const job = (await moves.submit(ports.registry.byId(vmId)!, toFolder(world.fast)))!;
    await reached(() => world.worker.steps.includes('mirror'));
    const target = path.join(world.fast, 'Virtual Hard Disks', 'a.img');
    world.worker.keepTargets = true;
    fs.rmSync(target);
    fs.writeFileSync(target, 'precious');
    world.worker.failNow('StorageFailure', 'broke');
    expect((await job.finished()).state).toBe('failed');
    expect(fs.readFileSync(target, 'utf8')).toBe('precious');
    expect(fs.existsSync(path.join(world.fast, 'Virtual Hard Disks', 'b.img'))).toBe(false);
  });

  test('a record that cannot be read is named and left alone', async () => {
    const file = path.join(world.state, 'moves', 'odd.json');
    fs.writeFileSync(file, '{"schema":1');
    const { moves } = await world.restartHost();
    expect(moves.unfinished()).toEqual([]);
    expect(fs.existsSync(file)).toBe(true);
    expect(world.logged.join()).toContain('odd.json');
  });

  test('only the newest receipts are kept', async () => {
    const folder = path.join(world.state, 'receipts');
    fs.mkdirSync(folder);
    const receipt = (index: number) => ({
      schema: 1,
      moveId: `m${index}`,
      vmId: 'vm',
      vmName: 'web01',
      startedAt: new Date(index).toISOString(),
      configurationSource: '/a/vm.vmcx',
      configurationTarget: '/a/vm.vmcx',
      moved: [],
      kept: [],
      finishedAt: new Date(index).toISOString(),
      status: freshStatus('m', 'done'),
    });
    for (let index = 0; index < RECEIPTS_KEPT + 3; index++)
      fs.writeFileSync(path.join(folder, `m${index}.json`), JSON.stringify(receipt(index)));
    await new Receipts(folder, ownFiles).prune();
    expect(fs.readdirSync(folder)).toHaveLength(RECEIPTS_KEPT);
    expect(fs.existsSync(path.join(folder, 'm2.json'))).toBe(false);
    expect(fs.existsSync(path.join(folder, 'm3.json'))).toBe(true);
  });
});

describe('identity', () => {
  const file = { device: 1n, inode: 2n, bornNs: 3_000_000_000n };

  test('a reused inode number is another file; a new device number after a reboot is not', () => {
    expect(sameFile(file, { ...file, bornNs: 4n })).toBe(false);
    expect(sameFile(file, { ...file, device: 9n })).toBe(true);
    expect(sameFile(file, { ...file, inode: 9n })).toBe(false);
  });

  test('without a time of birth the device counts, and nothing is born after anything', () => {
    expect(sameFile({ ...file, bornNs: 0n }, { ...file, bornNs: 0n })).toBe(true);
    expect(sameFile({ ...file, bornNs: 0n }, { ...file, bornNs: 0n, device: 9n })).toBe(false);
    expect(bornAfter({ ...file, bornNs: 0n }, new Date(0))).toBe(false);
  });

  test('birth is compared with the clock to the tick', () => {
    expect(bornAfter(file, new Date(3_010))).toBe(true);
    expect(bornAfter(file, new Date(3_100))).toBe(false);
  });

  test('survives JSON', () => {
    expect(readIdentity(JSON.parse(JSON.stringify(writeIdentity(file))))).toEqual(file);
  });
});

describe('progress', () => {
  test('reads as a person expects it', () => {
    const status = {
      ...freshStatus('m', 'copy'),
      bytesTotal: String(40 * 2 ** 30),
      bytesCopied: String(12.3 * 2 ** 30),
      bytesPerSecond: 512 * 2 ** 20,
      guestP99Us: 800,
    };
    expect(statusLine(status)).toBe('copy: 12.3 of 40.0 GB, 512 MB/s, guest p99 0.8 ms');
    expect(statusLine(freshStatus('m', 'check'))).toBe('check');
    expect(statusLine({ ...freshStatus('m', 'verify'), bytesTotal: '1048576', bytesCompared: '524288' })).toBe('verify: 0.5 of 1.0 MB');
    const sparse = {
      ...freshStatus('m', 'copy'),
      bytesTotal: String(2 ** 40),
      bytesData: String(100 * 2 ** 20),
      bytesCopied: String(25 * 2 ** 20),
    };
    expect(statusLine(sparse)).toBe('copy: 25.0 of 100.0 MB');
    const ended = (code: string) => statusLine({ ...sparse, phase: 'done', outcome: { ok: false, code, message: 'no' } });
    expect([ended('NoSpace'), ended('OperationStopped')]).toEqual(['failed', 'stopped']);
  });

  test('a worker that was started again does not make it go back, nor forget the receipt', () => {
    const seen: number[] = [];
    const tracker = new Tracker({ moveId: 'm' }, (status) => void seen.push(status.percent));
    const before = { operations: 90, processorUs: 1_000, wallUs: 7_000 };
    const after = { operations: 40, processorUs: 3_000, wallUs: 4_000 };
    const figures = { percent: 60, receipt: [], blackoutUs: 12, bytesTotal: '7', bytesCopied: '5' };
    tracker.fromWorker({ ...freshStatus('m', 'mirror'), ...figures, longestTurn: before });
    tracker.fromWorker({ ...freshStatus('m', 'copy'), percent: 10, longestTurn: after });
    tracker.fromWorker({ ...freshStatus('other', 'copy'), percent: 90 });
    expect(seen).toEqual([60, 60]);
    expect(tracker.status).toMatchObject({ phase: 'copy', receipt: [], blackoutUs: 12, bytesCopied: '5' });
    expect(tracker.status.longestTurn).toEqual({ operations: 90, processorUs: 3_000, wallUs: 7_000 });
    tracker.enter('release');
    tracker.fromWorker({ ...freshStatus('m', 'switch'), percent: 95 });
    expect(tracker.status).toMatchObject({ phase: 'release', percent: 99 });
  });
});
