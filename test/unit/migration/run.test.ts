/** The promise of run.ts, on moves that nobody interrupts from outside. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { MoveReceipt } from '../../../src/migration/receipts.js';
import { RETAINED } from '../../../src/migration/plan.js';
import { failureOf } from '../../../src/migration/failure.js';
import type { MoveFiles, Owner } from '../../../src/migration/ports.js';
import { VmStorageError } from '../../../src/model/errors.js';
import type { MigrationPorts } from '../../../src/migration/ports.js';
import { World, allOver, reached, toFolder, vmId } from './world.js';

let world: World;
beforeEach(() => void (world = new World()));
afterEach(() => world.destroy());

const STAYS = 'The virtual machine stays on its source files.';
const moved = ['Virtual Hard Disks/a.img', 'Virtual Hard Disks/b.img', `Virtual Machines/${vmId}.vmcx`];
const before = [`Virtual Machines/${vmId}.vmcx`, 'a.img', 'b.img'];

async function move(request = toFolder(world.fast)) {
  const { moves, ports } = world.host();
  const job = (await moves.submit(ports.registry.byId(vmId)!, request))!;
  const outcome = await job.finished();
  return { moves, ports, job, outcome };
}

/** Nothing of a move is left anywhere but its receipt. */
function stateIsClean() {
  expect(world.files(path.join(world.state, 'moves'))).toEqual([]);
}

describe('a move that succeeds', () => {
  test('puts disks and configuration where runbooks look for them, and deletes the old ones', async () => {
    const content = fs.readFileSync(path.join(world.slow, 'a.img'));
    const { outcome } = await move();
    expect(outcome.state).toBe('succeeded');
    expect(world.files(world.fast)).toEqual(moved);
    expect(world.files(world.slow)).toEqual([]);
    const after = world.configuration();
    expect([after.path, after.snapshotFileLocation, after.smartPagingFilePath]).toEqual([world.fast, world.fast, world.fast]);
    expect(after.disks.map((disk) => disk.path)).toEqual(moved.slice(0, 2).map((file) => path.join(world.fast, file)));
    expect(fs.readFileSync(after.disks[0]!.path)).toEqual(content);
    stateIsClean();
  });

  test('leaves the emptied folders of the source, as Hyper-V does', async () => {
    await move();
    expect(fs.existsSync(path.join(world.slow, 'Virtual Machines'))).toBe(true);
  });

  test('ends the worker of a VM that is off', async () => {
    await move();
    expect(world.ended).toEqual([vmId]);
  });

  test('writes a receipt with both configuration files and all disks', async () => {
    const { job } = await move();
    const receipt = JSON.parse(fs.readFileSync(path.join(world.state, 'receipts', `${job.id}.json`), 'utf8')) as MoveReceipt;
    expect(receipt).toMatchObject({ moveId: job.id, vmId, kept: [], status: { outcome: { ok: true } } });
    expect(receipt.moved).toHaveLength(2);
    expect(receipt.finishedAt).not.toBeNull();
  });

  test('says once what the worker could not give a target', async () => {
    world.worker.warnings = ["'a' has not everything of 'b'", "'c' has not everything of 'd'"];
    const { job } = await move();
    expect(job.lines).toEqual(world.worker.warnings.map((text) => ({ event: 'warning', text })));
  });

  test('can be followed by a move back', async () => {
    const { moves, ports } = await move();
    const back = (await moves.submit(ports.registry.byId(vmId)!, toFolder(path.join(world.root, 'third'))))!;
    expect((await back.finished()).state).toBe('succeeded');
    expect(world.files(world.fast)).toEqual([]);
  });

  test('needs no room for its configuration at the end: the destination may be full by then', async () => {
    world.worker.holdAt = 'prepared';
    let full = false;
    const { ports: plain } = world.host();
    const registry: MigrationPorts['registry'] = {
      ...plain.registry,
      writeConfiguration: (configuration, file) =>
        full ? Promise.reject(new VmStorageError('NoSpace', 'full')) : plain.registry.writeConfiguration(configuration, file),
    };
    const { moves, ports } = world.host(undefined, { registry });
    const job = (await moves.submit(ports.registry.byId(vmId)!, toFolder(world.fast)))!;
    await reached(() => world.worker.steps.includes('verify'));
    full = true;
    world.worker.goOn();
    expect((await job.finished()).state).toBe('succeeded');
  });

  test('keeps what was changed in the configuration while it ran', async () => {
    world.worker.holdAt = 'prepared';
    const { moves, ports } = world.host();
    const job = (await moves.submit(ports.registry.byId(vmId)!, toFolder(world.fast)))!;
    await reached(() => world.worker.steps.includes('verify'));
    fs.writeFileSync(world.readRegistry()[vmId]!, JSON.stringify({ ...world.configuration(), notes: 'changed meanwhile' }));
    world.worker.goOn();
    await job.finished();
    expect(world.configuration().notes).toBe('changed meanwhile');
    expect(world.configuration().path).toBe(world.fast);
  });

  test('does not succeed before the hypervisor of a running VM is seen at the moved disks', async () => {
    world.hypervisorPid = 77;
    const { moves, ports } = world.host();
    const job = (await moves.submit(ports.registry.byId(vmId)!, toFolder(world.fast)))!;
    // It looks again and again, and does nothing else meanwhile.
    const looks = () => world.worker.calls.slice(world.worker.calls.indexOf('releaseMove')).filter((call) => call === 'status').length;
    await reached(() => world.worker.calls.includes('releaseMove') && looks() > 20);
    expect(world.files(world.slow)).toContain('a.img');
    expect(job.state).toBe('running');
    world.worker.peerPid = 77;
    expect((await job.finished()).state).toBe('succeeded');
    expect(world.files(world.slow)).toEqual([]);
  });
});

describe('sources that stay', () => {
  test('-RetainVhdCopiesOnSource keeps the disk files and says so verbosely', async () => {
    const { job } = await move(toFolder(world.fast, { retainSources: true }));
    expect(world.files(world.slow)).toEqual(['a.img', 'b.img']);
    expect(job.lines.filter((line) => line.event === 'warning')).toEqual([]);
    expect(job.lines.map((line) => line.text).join()).toContain(RETAINED);
  });

  test('a source with further hard links is moved, kept, and warned about', async () => {
    fs.linkSync(path.join(world.slow, 'a.img'), path.join(world.root, 'other-name'));
    const { job, outcome } = await move();
    expect(outcome.state).toBe('succeeded');
    expect(world.files(world.slow)).toEqual(['a.img']);
    expect(job.lines.filter((line) => line.event === 'warning').map((line) => line.text)).toEqual([
      expect.stringContaining('hard link'),
      expect.stringContaining('hard link'),
    ]);
  });

  test('a source that got a further hard link while it was moved is kept as well', async () => {
    world.worker.holdAt = 'prepared';
    const { moves, ports } = world.host();
    const job = (await moves.submit(ports.registry.byId(vmId)!, toFolder(world.fast)))!;
    await reached(() => world.worker.steps.includes('verify'));
    fs.linkSync(path.join(world.slow, 'a.img'), path.join(world.root, 'other-name'));
    world.worker.goOn();
    expect((await job.finished()).state).toBe('succeeded');
    expect(world.files(world.slow)).toEqual(['a.img']);
  });

  test('a source that was replaced by another file meanwhile is not deleted', async () => {
    world.worker.holdAt = 'prepared';
    const { moves, ports } = world.host();
    const job = (await moves.submit(ports.registry.byId(vmId)!, toFolder(world.fast)))!;
    await reached(() => world.worker.steps.includes('verify'));
    const source = path.join(world.slow, 'a.img');
    fs.renameSync(source, `${source}.old`);
    fs.writeFileSync(source, 'precious');
    world.worker.goOn();
    expect((await job.finished()).state).toBe('succeeded');
    expect(fs.readFileSync(source, 'utf8')).toBe('precious');
    expect(job.lines.map((line) => line.text).join()).toContain('another file');
  });

  test('a source reached through a symbolic link goes, and the link with it', async () => {
    const real = path.join(world.root, 'elsewhere.img');
    fs.renameSync(path.join(world.slow, 'a.img'), real);
    fs.symlinkSync(real, path.join(world.slow, 'a.img'));
    await move();
    expect(fs.existsSync(real)).toBe(false);
    expect(world.files(world.slow)).toEqual([]);
  });

  test('a source whose file system refuses the deletion is kept with a warning, and the move succeeds', async () => {
    const { ports } = world.host();
    const refuse = () => Promise.reject(Object.assign(new Error('read-only'), { code: 'EROFS' }));
    const files: MoveFiles = {
      ...ports.files,
      hold: async (at, owner) => {
        const file = await ports.files.hold(at, owner);
        return file && at.endsWith('a.img') ? { ...file, delete: refuse } : file;
      },
    };
    const host = world.host(undefined, { files });
    const job = (await host.moves.submit(host.ports.registry.byId(vmId)!, toFolder(world.fast)))!;
    expect((await job.finished()).state).toBe('succeeded');
    expect(world.files(world.slow)).toEqual(['a.img']);
    expect(job.lines.map((line) => line.text).join()).toContain('EROFS');
  });
});

describe('a move that fails before the switch', () => {
  test.each(['copy', 'mirror', 'verify', 'prepared', 'committed'] as const)(
    'at %s leaves the VM as it was and nothing at the destination',
    async (phase) => {
      const configuration = world.configuration();
      world.worker.failAt = { phase, code: 'StorageFailure', message: 'The destination broke.' };
      const { outcome, moves, ports } = await move();
      expect(outcome).toMatchObject({ state: 'failed', error: { code: 'StorageFailure', message: `The destination broke. ${STAYS}` } });
      expect(world.files(world.slow)).toEqual(before);
      expect(world.configuration()).toEqual(configuration);
      expect(fs.existsSync(world.fast)).toBe(false);
      stateIsClean();
      world.worker.failAt = null;
      expect((await (await moves.submit(ports.registry.byId(vmId)!, toFolder(world.fast)))!.finished()).state).toBe('succeeded');
    },
  );

  test('does not remove folders or files that were there before', async () => {
    fs.mkdirSync(path.join(world.fast, 'Virtual Hard Disks'), { recursive: true });
    fs.writeFileSync(path.join(world.fast, 'note.txt'), 'mine');
    world.worker.failAt = { phase: 'mirror', code: 'StorageFailure', message: 'no' };
    await move();
    expect(world.files(world.fast)).toEqual(['note.txt']);
    expect(fs.existsSync(path.join(world.fast, 'Virtual Hard Disks'))).toBe(true);
  });

  test.each([
    ['ENOENT', 'StorageFailure', 'takes no folders'],
    ['ENOTDIR', 'StorageFailure', 'is not a folder any more'],
    ['EROFS', 'AccessDenied', 'the words of the system'],
    ['EACCES', 'AccessDenied', 'the words of the system'],
    ['ENOSPC', 'NoSpace', 'the words of the system'],
    ['EIO', 'StorageFailure', 'the words of the system'],
  ] as const)('says which folder could not be made when the file system answers %s', async (system, code, why) => {
    const refused = path.join(world.fast, 'Virtual Machines');
    const { ports: plain } = world.host();
    const files = {
      ...plain.files,
      makeFolder: (at: string, owner: Owner) =>
        at === refused
          ? Promise.reject(Object.assign(new Error(`${system}: the words of the system, mkdir '${at}'`), { code: system }))
          : plain.files.makeFolder(at, owner),
    };
    const configuration = world.configuration();
    const { moves, ports } = world.host(undefined, { files });
    const job = (await moves.submit(ports.registry.byId(vmId)!, toFolder(world.fast)))!;
    const outcome = await job.finished();
    expect(outcome).toMatchObject({ state: 'failed', error: { code, target: refused, recommendedAction: expect.any(String) as string } });
    const { message } = (outcome as { error: VmStorageError }).error;
    expect(message).toContain(`'${refused}' cannot be made`);
    expect(message).toContain(why);
    // The folder's own name is random and may look like a code of the system.
    expect(message.replaceAll(refused, '')).not.toMatch(/mkdir|E[A-Z]{2,}/);
    expect(world.files(world.slow)).toEqual(before);
    expect(world.configuration()).toEqual(configuration);
    expect(fs.existsSync(world.fast)).toBe(false);
    stateIsClean();
  });

  test("names the file in the system's words, without Node's", async () => {
    const { ports: plain } = world.host();
    const refuse = (at: string) => Promise.reject(Object.assign(new Error(`EIO: i/o error, open '${at}'`), { code: 'EIO', path: at }));
    const files = { ...plain.files, writeText: refuse };
    const { moves, ports } = world.host(undefined, { files });
    const job = (await moves.submit(ports.registry.byId(vmId)!, toFolder(world.fast)))!;
    const outcome = await job.finished();
    expect(outcome).toMatchObject({ state: 'failed', error: { code: 'StorageFailure' } });
    const { message } = (outcome as { error: VmStorageError }).error;
    expect(message).toMatch(/^'\/.*\.json': i\/o error/);
    expect(message).not.toMatch(/EIO|open/);
  });

  test('names the disk, its path, the cause and what to do, whatever phase and whoever it was that failed', async () => {
    const target = path.join(world.fast, 'Virtual Hard Disks', 'b.img');
    const noRoom = { code: 'NoSpace' as const, message: 'Cannot allocate: No space left on device.', path: target };
    world.worker.refuseStart = noRoom;
    const failed = async (host: ReturnType<World['host']>) => {
      const job = (await host.moves.submit(host.ports.registry.byId(vmId)!, toFolder(world.fast)))!;
      const outcome = await job.finished();
      if (outcome.state !== 'failed') throw new Error(`the move has ${outcome.state}`);
      const plan = host.moves.planOf(job.id);
      return { phase: job.progress.phase, ...failureOf(outcome.error, plan), todo: outcome.error.recommendedAction };
    };
    const there = 'Free some space there, or name another destination.';
    expect(await failed(world.host())).toEqual({
      phase: 'prepare',
      code: 'NoSpace',
      message: `The destination of disk 1 cannot be made: ${noRoom.message} ${STAYS}`,
      disk: 1,
      path: target,
      todo: there,
    });
    world.worker.refuseStart = null;

    const { ports: plain } = world.host();
    const full = (at: string) =>
      Promise.reject(Object.assign(new Error(`ENOSPC: no space left on device, mkdir '${at}'`), { code: 'ENOSPC', path: at }));
    const noFolder = await failed(world.host(undefined, { files: { ...plain.files, makeFolder: full } }));
    expect(noFolder).toMatchObject({ phase: 'prepare', code: 'NoSpace', disk: null, path: world.fast });
    expect(noFolder.message).toBe(`The destination folder '${world.fast}' cannot be made: no space left on device. ${STAYS}`);

    const record = path.join(world.state, 'moves');
    const noRecord = await failed(world.host(undefined, { files: { ...plain.files, writeText: full } }));
    expect(noRecord).toMatchObject({ phase: 'prepare', code: 'NoSpace', disk: null, path: expect.stringContaining(record) as string });
    expect(noRecord.todo).toBe(`Free some space on the file system of '${noRecord.path}', then move again.`);
    stateIsClean();
  });

  test('keeps the destination on its to-do list while that cannot be cleaned, and the VM is free', async () => {
    let broken = true;
    const { ports: plain } = world.host();
    const files = {
      ...plain.files,
      deleteEmptyFolder: async (at: string, owner: Owner) =>
        broken ? Promise.reject(Object.assign(new Error('io'), { code: 'EIO' })) : plain.files.deleteEmptyFolder(at, owner),
    };
    world.worker.failAt = { phase: 'copy', code: 'StorageFailure', message: 'the destination broke.' };
    const { moves, ports } = world.host(undefined, { files });
    const job = (await moves.submit(ports.registry.byId(vmId)!, toFolder(world.fast)))!;
    expect(await job.finished()).toMatchObject({
      state: 'failed',
      error: { message: expect.stringContaining(`could not be cleaned yet: '${world.fast}/Virtual Machines', '${world.fast}/`) as string },
    });
    expect(moves.leftOver()).toEqual([job.id]);
    expect(ports.locks.isMoving(vmId)).toBe(false);
    broken = false;
    await allOver(moves);
    expect(fs.existsSync(world.fast)).toBe(false);
    stateIsClean();
  });
});

describe('a stop', () => {
  test.each(['copy', 'mirror', 'verify', 'prepared'] as const)('at %s puts everything back', async (phase) => {
    world.worker.holdAt = phase;
    const { moves, ports } = world.host();
    const job = (await moves.submit(ports.registry.byId(vmId)!, toFolder(world.fast)))!;
    await reached(() =>
      world.worker.steps.includes(
        phase === 'copy' ? 'started' : ({ mirror: 'copy', verify: 'mirror', prepared: 'verify' } as const)[phase],
      ),
    );
    expect(job.cancel(new VmStorageError('OperationStopped', 'stop'))).toBe('requested');
    expect((await job.finished()).state).toBe('cancelled');
    expect(world.files(world.slow)).toEqual(before);
    expect(fs.existsSync(world.fast)).toBe(false);
    stateIsClean();
  });

  test('after COMMITTED lets the move finish and says that it is too late', async () => {
    world.hypervisorPid = 77;
    const { moves, ports } = world.host();
    const job = (await moves.submit(ports.registry.byId(vmId)!, toFolder(world.fast)))!;
    await reached(() => world.worker.calls.includes('releaseMove'));
    expect(job.cancel(new VmStorageError('OperationStopped', 'stop'))).toBe('tooLate');
    world.worker.peerPid = 77;
    expect((await job.finished()).state).toBe('succeeded');
  });

  test('while it waits in line takes it out of the line and frees the VM', async () => {
    world.limit = 0;
    const { moves, ports } = world.host();
    const job = (await moves.submit(ports.registry.byId(vmId)!, toFolder(world.fast)))!;
    expect(moves.placeInLine(job.id)).toBe(1);
    expect(job.cancel(new VmStorageError('OperationStopped', 'stop'))).toBe('cancelled');
    await job.finished();
    await reached(() => !ports.locks.isMoving(vmId));
    expect(fs.existsSync(world.fast)).toBe(false);
  });
});

test('a second move of the same VM is refused while the first is there', async () => {
  world.worker.holdAt = 'copy';
  const { moves, ports } = world.host();
  const vm = ports.registry.byId(vmId)!;
  const job = (await moves.submit(vm, toFolder(world.fast)))!;
  await expect(moves.look(vm, toFolder(path.join(world.root, 'third')))).rejects.toMatchObject({ code: 'ObjectInUse' });
  await expect(moves.submit(vm, toFolder(path.join(world.root, 'third')))).rejects.toMatchObject({ code: 'ObjectInUse' });
  job.cancel(new VmStorageError('OperationStopped', 'stop'));
  await job.finished();
});

test('paths without disks move only the configuration, without a worker', async () => {
  const destination = {
    kind: 'multiple' as const,
    virtualMachinePath: world.fast,
    snapshotFilePath: null,
    smartPagingFilePath: null,
    vhds: null,
  };
  const { outcome } = await move(toFolder('', { destination }));
  expect(outcome.state).toBe('succeeded');
  expect(world.files(world.fast)).toEqual([`Virtual Machines/${vmId}.vmcx`]);
  expect(world.files(world.slow)).toEqual(['a.img', 'b.img']);
  expect(world.configuration()).toMatchObject({ path: world.fast, snapshotFileLocation: world.slow, smartPagingFilePath: world.slow });
  expect(world.worker.calls).toEqual([]);
});
