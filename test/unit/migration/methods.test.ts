/** The three cmdlets as their clients see them. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { moveMethods } from '../../../src/migration/methods.js';
import type { CmdletContext, MigrationPorts, WireObject, WireValue } from '../../../src/migration/ports.js';
import type { VMStorageMovePlanObject } from '../../../cmdlets/types/index.js';
import { StorageMoves } from '../../../src/migration/moves.js';
import { freshStatus } from '../../../src/migration/progress.js';
import { Receipts } from '../../../src/migration/receipts.js';
import type { VmStorageError } from '../../../src/model/errors.js';
import type { MovePlan } from '../../../src/model/move.js';
import { World, allOver, reached, vmId } from './world.js';

let world: World;
let moves: StorageMoves;
let ports: MigrationPorts;
beforeEach(() => {
  world = new World();
  ({ moves, ports } = world.host());
});
afterEach(() => world.destroy());

const STAYS = 'The virtual machine stays on its source files.';

const planned = (): MovePlan => ({
  schema: 1,
  moveId: 'm',
  vmId,
  vmName: 'web01',
  createdAt: new Date(0).toISOString(),
  generation: 1,
  disks: [],
  after: world.configuration(),
  configurationSource: '/a',
  configurationTarget: '/b',
  createdFolders: [],
  keepSources: [],
  bootId: 'boot',
});

class Client {
  readonly out: WireObject[] = [];
  readonly errors: VmStorageError[] = [];
  readonly verbose: string[] = [];
  readonly warnings: string[] = [];
  readonly progress: Parameters<CmdletContext['progress']>[0][] = [];
  readonly asked: string[] = [];
  readonly stop = new AbortController();
  readonly gone = new AbortController();

  constructor(private readonly answer = true) {}

  async call(cmdlet: string, parameterSet: string, bound: { [name: string]: WireValue }): Promise<VmStorageError | null> {
    const context: CmdletContext = {
      cmdlet,
      caller: () => Promise.resolve(null),
      parameterSet,
      bound,
      cwd: world.root,
      signal: this.gone.signal,
      stopRequested: this.stop.signal,
      output: async (value) => void this.out.push(value),
      error: async (error) => void this.errors.push(error),
      verbose: async (text) => void this.verbose.push(text),
      warning: async (text) => void this.warnings.push(text),
      information: async () => undefined,
      progress: async (record) => void this.progress.push(record),
      shouldProcess: async (text) => {
        this.asked.push(text);
        return this.answer;
      },
      shouldContinue: () => Promise.reject(new Error('a move asks once')),
    };
    return moveMethods(moves, ports)[cmdlet]!(context).then(
      () => null,
      (error: VmStorageError) => error,
    );
  }

  move(bound: { [name: string]: WireValue } = {}): Promise<VmStorageError | null> {
    return this.call('Move-VMStorage', 'NameSingleDestination', { Name: 'web01', DestinationStoragePath: world.fast, ...bound });
  }
}

describe('Move-VMStorage', () => {
  test('moves, writes nothing to the pipeline, and shows progress that only rises', async () => {
    const client = new Client();
    expect(await client.move()).toBeNull();
    expect(client.out).toEqual([]);
    expect(client.asked).toEqual([`Move-VMStorage will move the storage of the virtual machine "web01" to "${world.fast}".`]);
    const percents = client.progress.map((record) => record.percent);
    expect(percents).toEqual([...percents].sort((a, b) => a - b));
    expect(client.progress.every((record) => record.activity === 'Moving storage of virtual machine "web01"')).toBe(true);
    expect(client.progress.at(-1)).toMatchObject({ percent: 100, done: true, data: { phase: 'done', outcome: { ok: true } } });
    expect(client.progress.map((record) => record.data!['phase'])).toContain('cleanUp');
  });

  test('-WhatIf writes nothing and shows refusals', async () => {
    const client = new Client(false);
    expect(await client.move()).toBeNull();
    expect(client.asked).toHaveLength(1);
    expect(fs.existsSync(world.fast)).toBe(false);
    fs.writeFileSync(world.fast, 'a file');
    expect(await client.move()).toMatchObject({ code: 'InvalidParameter' });
    expect(client.asked).toHaveLength(1);
  });

  test('an unknown VM is an error of its own; the next record is moved', async () => {
    const client = new Client();
    expect(await client.move({ Name: 'missing' })).toMatchObject({
      code: 'ObjectNotFound',
      message: 'Hyper-V was unable to find a virtual machine with name "missing".',
      target: 'missing',
    });
    expect(await client.move()).toBeNull();
  });

  test('a VM object and its text are found by id', async () => {
    const client = new Client(false);
    for (const VM of [{ $t: 'VirtualMachine', Id: vmId }, `VirtualMachine (Name = 'web01') [Id = '${vmId}']`]) {
      expect(await client.call('Move-VMStorage', 'VMSingleDestination', { VM, DestinationStoragePath: world.fast })).toBeNull();
    }
    expect(client.asked).toHaveLength(2);
  });

  test('moving to where it already is succeeds without asking, with a warning', async () => {
    await new Client().move();
    const client = new Client();
    expect(await client.move()).toBeNull();
    expect(client.asked).toEqual([]);
    expect(client.warnings).toEqual(['The storage of the virtual machine "web01" is already where it was asked to be; nothing is moved.']);
  });

  test('the log has its beginning and its end with all there is to know, a failure as an error', async () => {
    const lines = (text: string) =>
      world.logged
        .filter((line) => line.includes(text))
        .map((line) => [line.slice(0, line.indexOf('{')), JSON.parse(line.slice(line.indexOf('{'))) as object] as const);
    world.worker.failAt = {
      phase: 'copy',
      code: 'NoSpace',
      message: 'The destination is full.',
      disk: 1,
      path: path.join(world.fast, 'Virtual Hard Disks', 'b.img'),
    };
    await new Client().move();
    world.worker.failAt = null;
    await new Client().move();
    const about = {
      vmId,
      vmName: 'web01',
      disks: [
        { disk: 0, source: path.join(world.slow, 'a.img'), target: path.join(world.fast, 'Virtual Hard Disks', 'a.img') },
        { disk: 1, source: path.join(world.slow, 'b.img'), target: path.join(world.fast, 'Virtual Hard Disks', 'b.img') },
      ],
    };
    expect(lines('a move begins')).toMatchObject([
      ['a move begins ', about],
      ['a move begins ', about],
    ]);
    expect(lines('a move has ended')).toMatchObject([
      [
        'ERROR a move has ended ',
        {
          ...about,
          outcome: 'Failed',
          code: 'NoSpace',
          message: `The destination is full. ${STAYS}`,
          disk: 1,
          path: about.disks[1]!.target,
        },
      ],
      ['a move has ended ', { ...about, outcome: 'Completed', bytes: '1000', bytesCopied: '500', seconds: expect.any(Number) as number }],
    ]);
  });

  test('the last line of a failed or stopped one says so, without a percentage', async () => {
    world.worker.failAt = { phase: 'verify', code: 'NoSpace', message: 'full' };
    const failed = new Client();
    await failed.move();
    expect(failed.progress.at(-2)!.percent).toBeGreaterThan(0);
    expect(failed.progress.at(-1)).toMatchObject({ status: 'failed', percent: -1, done: true });
    world.worker.failAt = null;
    world.worker.holdAt = 'verify';
    world.worker.steps.length = 0;
    const stopped = new Client();
    const call = stopped.move();
    await reached(() => world.worker.steps.includes('mirror'));
    stopped.stop.abort();
    await call;
    expect(stopped.progress.at(-1)).toMatchObject({ status: 'stopped', percent: -1, done: true });
  });

  test('a failure comes in the known sentence, with the precise code', async () => {
    world.worker.failAt = { phase: 'copy', code: 'NoSpace', message: 'No space left on the destination.' };
    expect(await new Client().move()).toMatchObject({
      code: 'NoSpace',
      message: `Storage migration for virtual machine 'web01' (${vmId.toUpperCase()}) failed with error 'No space left on the destination. The virtual machine stays on its source files.'.`,
    });
  });

  test('a stop undoes the move', async () => {
    world.worker.holdAt = 'verify';
    const client = new Client();
    const call = client.move();
    await reached(() => world.worker.steps.includes('mirror'));
    client.stop.abort();
    expect(await call).toMatchObject({ code: 'OperationStopped' });
    expect(fs.existsSync(world.fast)).toBe(false);
  });

  test('a stop after the switch is answered with a warning, and the move succeeds', async () => {
    world.hypervisorPid = 77;
    const client = new Client();
    const call = client.move();
    await reached(() => world.worker.calls.includes('releaseMove'));
    client.stop.abort();
    await reached(() => client.warnings.length > 0);
    world.worker.peerPid = 77;
    expect(await call).toBeNull();
    expect(client.warnings[0]).toContain('uses its new files already');
  });

  test('a client that vanishes does not stop the move', async () => {
    world.worker.holdAt = 'verify';
    const client = new Client();
    const call = client.move();
    await reached(() => world.worker.steps.includes('mirror'));
    client.gone.abort();
    expect(await call).toBeNull();
    expect(moves.of(vmId)?.state).toBe('running');
    world.worker.goOn();
    await allOver(moves);
    expect(world.configuration().path).toBe(world.fast);
  });

  test('a move that waits in line says so and can be stopped there', async () => {
    world.limit = 0;
    const client = new Client();
    const call = client.move();
    await reached(() => client.progress.length > 0);
    expect(client.progress[0]!.status).toBe('queued: 1 in line');
    client.stop.abort();
    expect(await call).toMatchObject({ code: 'OperationStopped' });
  });

  test('a move that waits in line when the host ends fails, and says that nothing was begun', async () => {
    world.limit = 0;
    const client = new Client();
    const call = client.move();
    await reached(() => client.progress.length > 0);
    moves.close();
    client.gone.abort(); // the host lets go of its clients in the same moment
    expect(await call).toMatchObject({
      code: 'OperationStopped',
      message: expect.stringContaining('Nothing was begun, and nothing was changed.') as string,
      recommendedAction: expect.stringContaining('Ask for the move again') as string,
    });
    expect(world.worker.calls).not.toContain('startMove');
    expect(fs.existsSync(world.fast)).toBe(false);
    expect(ports.locks.isMoving(vmId)).toBe(false);
    expect(await new Client().move()).toMatchObject({ code: 'OperationStopped' });
  });

  test('kept sources are warned about, and who asks later is told', async () => {
    fs.linkSync(path.join(world.slow, 'a.img'), path.join(world.root, 'other'));
    const client = new Client();
    await client.move();
    expect(client.warnings.at(-1)).toMatch(/a\.img' was moved, but the old file was not deleted: it has 1 further hard link/);
    for (const restarted of [false, true]) {
      if (restarted) ({ moves, ports } = await world.restartHost());
      const later = new Client();
      await later.call('Get-VMStorageMove', 'Name', { Last: 1 });
      expect(later.out).toEqual([
        expect.objectContaining({ Outcome: 'Completed', Message: expect.stringContaining('the old file was not deleted') as string }),
      ]);
    }
  });
});

describe('Move-VMStorage -PassPlan', () => {
  const [a, b] = ['a.img', 'b.img'];
  const plan = async (bound: { [name: string]: WireValue } = {}) => {
    const client = new Client(false);
    const error = await client.move({ PassPlan: true, ...bound });
    expect(client.out).toHaveLength(1);
    return { error, client, plan: client.out[0] as WireObject & VMStorageMovePlanObject };
  };

  test('says what moves from where to where, how much, and what room there is; with -WhatIf nothing else is done', async () => {
    const { error, client, plan: told } = await plan();
    expect(error).toBeNull();
    expect(client.asked).toHaveLength(1);
    expect(told).toMatchObject({ $t: 'VMStorageMovePlan', VMName: 'web01', VMId: vmId, Warnings: [], Refusals: [], ForecastSeconds: null });
    expect(told.Items.map(({ Kind, Source, Destination }) => [Kind, Source, Destination])).toEqual([
      ['VirtualHardDisk', path.join(world.slow, a), path.join(world.fast, 'Virtual Hard Disks', a)],
      ['VirtualHardDisk', path.join(world.slow, b), path.join(world.fast, 'Virtual Hard Disks', b)],
      [
        'Configuration',
        path.join(world.slow, 'Virtual Machines', `${vmId}.vmcx`),
        path.join(world.fast, 'Virtual Machines', `${vmId}.vmcx`),
      ],
      ['Checkpoints', world.slow, world.fast],
      ['SmartPaging', world.slow, world.fast],
    ]);
    const copied = told.Items.reduce((sum, { BytesToCopy }) => sum + BigInt(BytesToCopy ?? 0), 0n);
    expect(told.BytesToCopy).toBe(String(copied));
    expect(copied).toBeGreaterThan(0n);
    expect(told.Room).toHaveLength(1);
    expect(BigInt(told.Room[0]!.BytesFree)).toBeGreaterThan(BigInt(told.Room[0]!.BytesNeeded));
    expect(fs.existsSync(world.fast)).toBe(false);
  });

  test('a refused move has a plan as well, with the refusal in it, and is refused all the same', async () => {
    fs.mkdirSync(path.join(world.fast, 'Virtual Hard Disks'), { recursive: true });
    fs.writeFileSync(path.join(world.fast, 'Virtual Hard Disks', b), 'in the way');
    const { error, client, plan: told } = await plan();
    expect(error).toMatchObject({ code: 'AlreadyExists' });
    expect(client.asked).toEqual([]);
    expect(told.Refusals).toMatchObject([
      { ErrorCode: 'AlreadyExists', Message: error!.message, Path: path.join(world.fast, 'Virtual Hard Disks', b) },
    ]);
    expect(told.Items).toHaveLength(5);
    expect(told).toMatchObject({ BytesToCopy: null, Room: [] });
  });

  test('where the room is too small, the figures say by how much', async () => {
    ({ moves, ports } = world.host());
    ports = { ...ports, files: { ...ports.files, freeBytes: async () => 1000n } };
    moves = new StorageMoves(ports);
    const { error, plan: told } = await plan();
    expect(error).toMatchObject({ code: 'NoSpace' });
    expect(told.Room).toMatchObject([{ BytesFree: '1000' }]);
    expect(BigInt(told.Room[0]!.BytesNeeded)).toBeGreaterThan(1000n);
    expect(told.Refusals).toMatchObject([{ ErrorCode: 'NoSpace' }]);
  });

  test('of a virtual machine that moves: what it would do, and that it is refused', async () => {
    world.worker.holdAt = 'verify';
    const running = new Client().move();
    await reached(() => moves.of(vmId)?.progress.phase === 'mirror');
    const { error, plan: told } = await plan({ DestinationStoragePath: path.join(world.root, 'third') });
    expect(error).toMatchObject({ code: 'ObjectInUse' });
    expect(told.Refusals).toMatchObject([{ ErrorCode: 'ObjectInUse' }]);
    world.worker.goOn();
    await running;
  });

  test('kept sources are marked, and nothing to do is a plan without items', async () => {
    expect((await plan({ RetainVhdCopiesOnSource: true })).plan.Items.filter(({ SourceIsKept }) => SourceIsKept)).toHaveLength(2);
    const { error, client, plan: told } = await plan({ DestinationStoragePath: world.slow, Name: 'web01' });
    expect(error).toBeNull();
    expect(told.Items.map(({ Kind }) => Kind)).toEqual(['VirtualHardDisk', 'VirtualHardDisk']); // into "Virtual Hard Disks"
    expect(client.asked).toHaveLength(1);
  });
});

describe('Get-VMStorageMove -Watch', () => {
  test('returns the moves, then each again whenever it changes, and ends with the last of them', async () => {
    world.worker.holdAt = 'verify';
    const running = new Client().move();
    await reached(() => moves.of(vmId)?.progress.phase === 'mirror');
    const watcher = new Client();
    const watching = watcher.call('Get-VMStorageMove', 'Name', { Watch: true });
    await reached(() => watcher.out.length === 1);
    expect(watcher.out[0]).toMatchObject({ Phase: 'mirror', Outcome: 'Running' });
    world.worker.goOn();
    await running;
    expect(await watching).toBeNull();
    expect(watcher.out.at(-1)).toMatchObject({ Outcome: 'Completed', PercentComplete: 100 });
    expect(watcher.out.length).toBeGreaterThan(2);
    const percents = watcher.out.map((move) => Number(move['PercentComplete']));
    expect(percents).toEqual([...percents].sort((one, other) => one - other));
  });

  test('ends at once where nothing goes on, and when its client has gone', async () => {
    await new Client().move();
    const after = new Client();
    expect(await after.call('Get-VMStorageMove', 'Name', { Watch: true })).toBeNull();
    expect(after.out).toMatchObject([{ Outcome: 'Completed' }]);
    world.worker.holdAt = 'verify';
    world.worker.steps.length = 0;
    const running = new Client().move({ DestinationStoragePath: path.join(world.root, 'third') });
    await reached(() => world.worker.steps.includes('mirror'));
    const watcher = new Client();
    const watching = watcher.call('Get-VMStorageMove', 'Name', { Active: true, Watch: true });
    await reached(() => watcher.out.length > 0);
    watcher.gone.abort();
    expect(await watching).toBeNull();
    world.worker.goOn();
    expect(await running).toBeNull();
  });
});

describe('Get-VMStorageMove', () => {
  test('shows running moves with their figures, and finished ones with outcome and receipt', async () => {
    world.worker.holdAt = 'verify';
    const running = new Client();
    const call = running.move();
    await reached(() => moves.of(vmId)?.progress.phase === 'mirror');
    const client = new Client();
    await client.call('Get-VMStorageMove', 'Name', {});
    expect(client.out).toEqual([
      expect.objectContaining({
        $t: 'VMStorageMove',
        VMName: 'web01',
        VMId: vmId,
        Phase: 'mirror',
        Outcome: 'Running',
        BytesTotal: '1000',
        BytesCopied: '500',
      }),
    ]);
    world.worker.goOn();
    await call;
    const later = new Client();
    await later.call('Get-VMStorageMove', 'Name', { Name: ['WEB*'] });
    expect(later.out).toEqual([expect.objectContaining({ Phase: 'done', PercentComplete: 100, Outcome: 'Completed' })]);
    expect(later.out[0]!['Source']).toEqual([path.join(world.slow, 'a.img'), path.join(world.slow, 'b.img')]);
  });

  test('shows what came to nothing as well, and after a restart of the host: how long it took, why, which disk and which file', async () => {
    const target = path.join(world.fast, 'Virtual Hard Disks', 'b.img');
    world.worker.failAt = { phase: 'copy', code: 'NoSpace', message: 'The destination is full.', disk: 1, path: target };
    await new Client().move();
    world.worker.failAt = null;
    world.worker.holdAt = 'verify';
    const stopped = new Client().move();
    await reached(() => world.worker.steps.includes('mirror'));
    await new Client().call('Stop-VMStorageMove', 'Name', { Name: ['web01'] });
    await stopped;
    const shown = async () => {
      const client = new Client();
      await client.call('Get-VMStorageMove', 'Name', {});
      return client.out;
    };
    const before = await shown();
    expect(before).toMatchObject([
      { Outcome: 'Stopped', Phase: 'mirror', ErrorCode: 'OperationStopped', Message: expect.stringMatching(/stopped/), FailedPath: null },
      {
        Outcome: 'Failed',
        Phase: 'copy',
        ErrorCode: 'NoSpace',
        Message: `The destination is full. ${STAYS}`,
        FailedDisk: 1,
        FailedPath: target,
      },
    ]);
    for (const move of before) {
      expect(Date.parse(String(move['EndTime']))).toBeGreaterThanOrEqual(Date.parse(String(move['StartTime'])));
      expect(move['Duration']).toMatch(/^00:00:0\d/);
    }
    ({ moves, ports } = await world.restartHost());
    expect(
      (await shown()).map(({ MoveId, Phase, Outcome, ErrorCode, Message, FailedDisk, FailedPath }) => ({
        MoveId,
        Phase,
        Outcome,
        ErrorCode,
        Message,
        FailedDisk,
        FailedPath,
      })),
    ).toEqual(
      before.map(({ MoveId, Phase, Outcome, ErrorCode, Message, FailedDisk, FailedPath }) => ({
        MoveId,
        Phase,
        Outcome,
        ErrorCode,
        Message,
        FailedDisk,
        FailedPath,
      })),
    );
  });

  test('-Active shows those that go on, -Last so many, those that go on first', async () => {
    world.worker.failAt = { phase: 'copy', code: 'NoSpace', message: 'full' };
    await new Client().move();
    world.worker.failAt = null;
    world.worker.holdAt = 'verify';
    const running = new Client().move();
    await reached(() => moves.of(vmId)?.progress.phase === 'mirror');
    const outcomes = async (bound: { [name: string]: WireValue }) => {
      const client = new Client();
      await client.call('Get-VMStorageMove', 'Name', bound);
      return client.out.map((move) => move['Outcome']);
    };
    expect(await outcomes({})).toEqual(['Running', 'Failed']);
    expect(await outcomes({ Active: true })).toEqual(['Running']);
    expect(await outcomes({ Last: 1 })).toEqual(['Running']);
    expect(await outcomes({ Last: 1, Name: ['web*'] })).toEqual(['Running']);
    expect(await outcomes({ Last: 9 })).toEqual(['Running', 'Failed']);
    world.worker.goOn();
    await running;
    expect(await outcomes({ Active: true })).toEqual([]);
  });

  test('as many failures are kept as proofs, and neither takes the place of the other', async () => {
    const files = new Map<string, string>();
    const few = new Receipts(
      '/receipts',
      {
        list: async () => [...files.keys()].map((file) => path.basename(file)),
        readText: async (file) => files.get(file) ?? null,
        writeText: async (file, text) => void files.set(file, text),
        makeOwnFolder: async () => undefined,
        deleteFile: async (file) => files.delete(file),
      },
      2,
    );
    const failure = { code: 'NoSpace', message: 'full', disk: null, path: null };
    const plan = (moveId: string) => ({ ...planned(), moveId });
    await few.save(plan('done'), freshStatus('done', 'done'), [], new Date(0));
    for (let n = 1; n <= 5; n++) await few.saveFailure(plan(`failed-${n}`), freshStatus('f', 'done'), 'Failed', failure, new Date(n));
    expect([...files.keys()].map((file) => path.basename(file, '.json')).sort()).toEqual(['done', 'failed-4', 'failed-5']);
  });

  test('still shows finished moves after a restart of the host', async () => {
    await new Client().move();
    ({ moves, ports } = await world.restartHost());
    const client = new Client();
    await client.call('Get-VMStorageMove', 'Name', {});
    expect(client.out).toEqual([expect.objectContaining({ VMName: 'web01', Outcome: 'Completed' })]);
  });

  test('an unknown literal name is an error, a pattern without match is not', async () => {
    const client = new Client();
    await client.call('Get-VMStorageMove', 'Name', { Name: ['missing', 'miss*', 'web01'] });
    expect(client.errors.map((error) => error.target)).toEqual(['missing']);
  });
});

describe('Stop-VMStorageMove', () => {
  test('stops the move and returns when the destination is clean', async () => {
    world.worker.holdAt = 'verify';
    const call = new Client().move();
    await reached(() => world.worker.steps.includes('mirror'));
    const client = new Client();
    expect(await client.call('Stop-VMStorageMove', 'Name', { Name: ['web01'], PassThru: true })).toBeNull();
    expect(fs.existsSync(world.fast)).toBe(false);
    expect(client.out).toEqual([expect.objectContaining({ Outcome: 'Stopped' })]);
    expect(await call).toMatchObject({ code: 'OperationStopped' });
  });

  test('returns with a warning when the worker is not there, which stops the move once it is', async () => {
    world.worker.holdAt = 'verify';
    const watcher = new Client();
    const call = watcher.move();
    await reached(() => world.worker.steps.includes('mirror'));
    world.worker.pid = null;
    const client = new Client();
    expect(await client.call('Stop-VMStorageMove', 'Name', { Name: ['web01'], PassThru: true })).toBeNull();
    expect(client.warnings).toEqual([expect.stringMatching(/worker .*"web01" does not answer\. It is told to stop the move/)]);
    expect(client.out).toMatchObject([
      { Outcome: 'Stopping', Message: expect.stringMatching(/^Its storage worker does not answer; .* told to stop/) },
    ]);
    watcher.stop.abort();
    expect(await call).toMatchObject({ code: 'OperationStopped', message: expect.stringMatching(/does not answer/) });
    world.worker.restart();
    await allOver(moves);
    expect(moves.finished()).toMatchObject([{ state: 'cancelled' }]);
    expect(fs.existsSync(world.fast)).toBe(false);
  });

  test('with -WhatIf stops nothing; without a move it is an error', async () => {
    world.worker.holdAt = 'verify';
    const call = new Client().move();
    await reached(() => world.worker.steps.includes('mirror'));
    await new Client(false).call('Stop-VMStorageMove', 'Name', { Name: ['web01'] });
    expect(moves.of(vmId)?.state).toBe('running');
    world.worker.goOn();
    await call;
    const client = new Client();
    await client.call('Stop-VMStorageMove', 'Name', { Name: ['web01', 'missing'] });
    expect(client.errors.map((error) => error.code)).toEqual(['ObjectNotFound', 'InvalidState']);
  });

  test.each(['vm[1]', 'vm`[1`]', 'VM[1]'])('finds a virtual machine called vm[1] by %s', async (given) => {
    world.rename('vm[1]');
    const client = new Client();
    await client.call('Stop-VMStorageMove', 'Name', { Name: [given] });
    expect(client.errors.map((error) => [error.code, error.target])).toEqual([['InvalidState', 'vm[1]']]);
    await client.move({ Name: 'vm[1]' });
    await client.call('Get-VMStorageMove', 'Name', { Name: [given] });
    expect(client.out.map((one) => one['VMName'])).toEqual(['vm[1]']);
  });

  test('too late: a warning, and the move goes on', async () => {
    world.hypervisorPid = 77;
    const call = new Client().move();
    await reached(() => world.worker.calls.includes('releaseMove'));
    const client = new Client();
    await client.call('Stop-VMStorageMove', 'VMObject', { VM: [{ $t: 'VirtualMachine', Id: vmId }] });
    expect(client.warnings).toEqual([expect.stringContaining('uses its new files already')]);
    world.worker.peerPid = 77;
    expect(await call).toBeNull();
  });

  test('by its id it stops that move, and never a later one of the same virtual machine', async () => {
    world.worker.holdAt = 'verify';
    const first = new Client().move();
    await reached(() => world.worker.steps.includes('mirror'));
    const old = moves.of(vmId)!.id;
    const client = new Client();
    await client.call('Stop-VMStorageMove', 'MoveId', { MoveId: [old.toUpperCase()] });
    expect(await first).toMatchObject({ code: 'OperationStopped' });
    world.worker.steps.length = 0;
    const second = new Client().move();
    await reached(() => world.worker.steps.includes('mirror'));
    await client.call('Stop-VMStorageMove', 'MoveId', { MoveId: [old, '00000000-0000-0000-0000-000000000000'] });
    expect(client.warnings).toEqual([`The move ${old} of the storage of the virtual machine "web01" has ended already.`]);
    expect(client.errors).toMatchObject([{ code: 'ObjectNotFound', message: expect.stringContaining('no storage move with the id') }]);
    expect(moves.of(vmId)?.state).toBe('running');
    const shown = new Client();
    await shown.call('Get-VMStorageMove', 'MoveId', { MoveId: [old] });
    await shown.call('Get-VMStorageMove', 'VMObject', { VM: [{ $t: 'VirtualMachine', Id: vmId }] });
    expect(shown.out.map((move) => move['Outcome'])).toEqual(['Stopped', 'Running', 'Stopped']);
    world.worker.goOn();
    expect(await second).toBeNull();
  });
});
