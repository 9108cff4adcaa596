/**
 * The promise of run.ts when the host, the worker, both, or the machine dies at a durable step: at every one of them, before and after
 * it. Afterwards the VM is wholly on its old files or wholly on its new ones, nothing of ours lies anywhere else, and a second move works.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, test } from 'vitest';
import type { MoveRequest } from '../../../src/migration/request.js';
import { VmStorageError } from '../../../src/model/errors.js';
import { Steps, World, allOver, reached, toFolder, vmId } from './world.js';

/** Which of the two the VM is on; throws when it is neither, or when something lies about. */
async function settled(world: World, moving: 'disks' | 'configuration'): Promise<'old' | 'new'> {
  const configuration = world.configuration();
  const onTarget = configuration.path === world.fast;
  const vmcx = `Virtual Machines/${vmId}.vmcx`;
  const disks = ['a.img', 'b.img'];
  if (moving === 'configuration') {
    expect(world.files(world.fast)).toEqual(onTarget ? [vmcx] : []);
    expect(world.files(world.slow)).toEqual(onTarget ? disks : [vmcx, ...disks]);
  } else {
    expect(world.files(world.fast)).toEqual(onTarget ? [...disks.map((disk) => `Virtual Hard Disks/${disk}`), vmcx] : []);
    expect(world.files(world.slow)).toEqual(onTarget ? [] : [vmcx, ...disks]);
  }
  if (!onTarget) expect(fs.existsSync(world.fast)).toBe(false);
  expect(world.readRegistry()[vmId]).toBe(path.join(configuration.path, vmcx));
  for (const [index, disk] of configuration.disks.entries()) {
    expect(fs.readFileSync(disk.path, 'utf8')).toBe(`content of ${disks[index]}\n`.repeat(100));
    const served = world.worker.status().disks[index]!;
    expect(served.path).toBe(disk.path);
    expect(served.inode).toBe(String(fs.statSync(disk.path, { bigint: true }).ino));
  }
  expect(world.files(path.join(world.state, 'moves'))).toEqual([]);
  return onTarget ? 'new' : 'old';
}

async function secondMoveWorks(world: World): Promise<void> {
  const { moves, ports } = world.host();
  const job = (await moves.submit(ports.registry.byId(vmId)!, toFolder(path.join(world.root, 'third'))))!;
  expect(await job.finished()).toMatchObject({ state: 'succeeded' });
  expect(world.files(world.fast)).toEqual([]);
  expect(world.files(world.slow)).toEqual([]);
}

const requests: { readonly [name in 'disks' | 'configuration']: (world: World) => MoveRequest } = {
  disks: (world) => toFolder(world.fast),
  configuration: (world) =>
    toFolder('', {
      destination: { kind: 'multiple', virtualMachinePath: world.fast, snapshotFilePath: null, smartPagingFilePath: null, vhds: null },
    }),
};

async function stepNames(moving: 'disks' | 'configuration'): Promise<readonly string[]> {
  const world = new World();
  const { moves, ports, steps } = world.host();
  const job = (await moves.submit(ports.registry.byId(vmId)!, requests[moving](world)))!;
  expect((await job.finished()).state).toBe('succeeded');
  world.destroy();
  return steps.names;
}

type Death = 'host' | 'host and worker' | 'machine';

async function crashAt(moving: 'disks' | 'configuration', step: number, when: 'before' | 'after', death: Death): Promise<'old' | 'new'> {
  const world = new World();
  try {
    const steps = new Steps({ step, when, how: 'crash' });
    const first = world.host(steps);
    void first.moves.submit(first.ports.registry.byId(vmId)!, requests[moving](world)).catch(() => undefined);
    await reached(() => steps.dead);
    await steps.kill();
    await world.worker.quiet();
    world.worker.listeners.clear();
    if (death === 'machine') world.bootId = 'boot-2';
    if (death !== 'host') world.worker.restart();
    const { moves } = await world.restartHost();
    await allOver(moves);
    await world.worker.quiet();
    if (death !== 'host') world.worker.restart();
    const where = await settled(world, moving);
    await secondMoveWorks(world);
    return where;
  } finally {
    world.destroy();
  }
}

describe.each(['disks', 'configuration'] as const)('a move of %s', (moving) => {
  describe.each(['host', 'host and worker', 'machine'] as const)('when the %s dies', (death) => {
    test.each(['before', 'after'] as const)('%s any durable step', { timeout: 120_000 }, async (when) => {
      const names = await stepNames(moving);
      const seen: string[] = [];
      for (let step = 1; step <= names.length; step++) {
        try {
          seen.push(await crashAt(moving, step, when, death));
        } catch (cause) {
          throw new Error(`${when} step ${step} (${names[step - 1]}): ${(cause as Error).message}`, { cause });
        }
      }
      // Once it is on the new files at some step, it is at every later one; and both ends are reached.
      expect(seen.join(' ')).toMatch(/^(old ?)+(new ?)+$/);
    });
  });

  test('when one durable step fails but the host lives: old files before the switch, new ones after it', { timeout: 120_000 }, async () => {
    const names = await stepNames(moving);
    for (let step = 1; step <= names.length; step++) {
      const world = new World();
      try {
        const { moves, ports } = world.host(new Steps({ step, when: 'before', how: 'fail' }));
        const job = (await moves.submit(ports.registry.byId(vmId)!, requests[moving](world)))!;
        const outcome = await job.finished();
        await allOver(moves);
        const where = await settled(world, moving);
        expect(`${names[step - 1]} ${outcome.state} ${where}`).toMatch(/failed old|succeeded new/);
        await secondMoveWorks(world);
      } catch (cause) {
        throw new Error(`step ${step} (${names[step - 1]}): ${(cause as Error).message}`, { cause });
      } finally {
        world.destroy();
      }
    }
  });
});

describe('the worker dies while the host lives', () => {
  test.each(['target 0', 'target 1', 'started', 'copy', 'mirror', 'verify', 'prepared', 'committed', 'released', 'endMove'])(
    'at %s',
    async (step) => {
      const world = new World();
      try {
        world.worker.dieAt = step;
        const { moves, ports } = world.host();
        const job = (await moves.submit(ports.registry.byId(vmId)!, toFolder(world.fast)))!;
        expect(await job.finished()).toMatchObject({ state: 'succeeded' });
        expect(await settled(world, 'disks')).toBe('new');
        await secondMoveWorks(world);
      } finally {
        world.destroy();
      }
    },
  );

  test('in stopMove: the stop is asked again, and the VM stays on its old files', async () => {
    const world = new World();
    try {
      world.worker.holdAt = 'verify';
      world.worker.dieAt = 'stopMove';
      const { moves, ports } = world.host();
      const job = (await moves.submit(ports.registry.byId(vmId)!, toFolder(world.fast)))!;
      await reached(() => world.worker.steps.includes('mirror'));
      job.cancel(new VmStorageError('OperationStopped', 'stop'));
      expect((await job.finished()).state).toBe('cancelled');
      expect(await settled(world, 'disks')).toBe('old');
      world.worker.holdAt = null;
      await secondMoveWorks(world);
    } finally {
      world.destroy();
    }
  });
});

describe('the host dies while a move is undone', () => {
  test('at any durable step: recovery finishes the undoing', { timeout: 120_000 }, async () => {
    const probe = new World();
    probe.worker.failAt = { phase: 'verify', code: 'StorageFailure', message: 'broke' };
    const whole = probe.host();
    await (await whole.moves.submit(whole.ports.registry.byId(vmId)!, toFolder(probe.fast)))!.finished();
    probe.destroy();
    const from = whole.steps.names.indexOf('stopMove') + 1;
    expect(from).toBeGreaterThan(0);
    for (let step = from; step <= whole.steps.names.length; step++) {
      for (const when of ['before', 'after'] as const) {
        const world = new World();
        try {
          world.worker.failAt = { phase: 'verify', code: 'StorageFailure', message: 'broke' };
          const steps = new Steps({ step, when, how: 'crash' });
          const { moves, ports } = world.host(steps);
          void moves.submit(ports.registry.byId(vmId)!, toFolder(world.fast)).catch(() => undefined);
          await reached(() => steps.dead);
          await steps.kill();
          await world.worker.quiet();
          world.worker.listeners.clear();
          const next = await world.restartHost();
          await allOver(next.moves);
          expect(await settled(world, 'disks')).toBe('old');
          world.worker.failAt = null;
          await secondMoveWorks(world);
        } catch (cause) {
          throw new Error(`${when} step ${step} (${whole.steps.names[step - 1]}): ${(cause as Error).message}`, { cause });
        } finally {
          world.destroy();
        }
      }
    }
  });
});
