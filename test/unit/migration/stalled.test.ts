/** A move whose worker does not come back: what it keeps from others, and what it does not. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { VmStorageError } from '../../../src/model/errors.js';
import type { MigrationPorts } from '../../../src/migration/ports.js';
import type { StorageMoves } from '../../../src/migration/moves.js';
import { Steps, World, allOver, reached, toFolder, vmConfiguration, vmId } from './world.js';

const otherId = '2f1c7f0e-6f3b-4a1e-9d57-3b0a5f1f0002';

let world: World;
beforeEach(() => {
  world = new World();
  world.limit = 1;
  world.add(vmConfiguration(path.join(world.root, 'other'), [], otherId, 'web02'));
});
afterEach(() => world.destroy());

/** A move that is mirroring, and its worker is killed and cannot be started again. */
async function stranded() {
  const steps = new Steps();
  const host = world.host(steps);
  world.worker.holdAt = 'verify';
  const job = (await host.moves.submit(host.ports.registry.byId(vmId)!, toFolder(world.fast)))!;
  await reached(() => world.worker.steps.includes('mirror'));
  world.worker.pid = null;
  return { ...host, job };
}

/** The same, and the host is killed as well and starts again. */
async function strandedOverRestart() {
  const before = await stranded();
  await before.steps.kill();
  world.worker.listeners.clear();
  const host = world.host();
  await host.moves.start();
  const claim = host.ports.locks.claimMove(vmId); // as the host does until the worker has told its journal
  return { ...host, claim, job: host.moves.of(vmId)! };
}

const moveOther = async ({ moves, ports }: { moves: StorageMoves; ports: MigrationPorts }) =>
  (await moves.submit(ports.registry.byId(otherId)!, toFolder(path.join(world.root, 'elsewhere'))))!;

describe('a move whose worker is there and does not answer', () => {
  test('leaves its place to others as well, and goes on when it does', async () => {
    const host = world.host();
    world.worker.holdAt = 'verify';
    const job = (await host.moves.submit(host.ports.registry.byId(vmId)!, toFolder(world.fast)))!;
    await reached(() => world.worker.steps.includes('mirror'));
    world.worker.silent = true;
    const other = await moveOther(host);
    expect(await other.finished()).toMatchObject({ state: 'succeeded' });
    expect(job).toMatchObject({ state: 'running', isStalled: true });
    world.worker.silent = false;
    world.worker.goOn();
    expect(await job.finished()).toMatchObject({ state: 'succeeded' });
  });
});

function workerIsBack(): void {
  world.worker.restart();
  for (const listener of [...world.worker.listeners]) listener({ event: 'restored', status: world.worker.status() });
}

describe('a move whose worker does not come back', () => {
  test('leaves its place to others, keeps its VM, and completes once the worker is there', async () => {
    const host = await stranded();
    const other = await moveOther(host);
    expect(await other.finished()).toMatchObject({ state: 'succeeded' });
    expect(host.job).toMatchObject({ state: 'running', isStalled: true });
    expect(host.job.lines.map((line) => line.text)).toEqual([
      expect.stringMatching(/worker of the virtual machine "web01" does not answer; Get-VM says why/),
    ]);
    expect(host.ports.locks.isMoving(vmId)).toBe(true);
    const vm = host.ports.registry.byId(vmId)!;
    await expect(host.moves.submit(vm, toFolder(path.join(world.root, 'third')))).rejects.toMatchObject({ code: 'ObjectInUse' });
    world.worker.holdAt = null;
    workerIsBack();
    expect(await host.job.finished()).toMatchObject({ state: 'succeeded' });
    expect(world.configuration().path).toBe(world.fast);
    await allOver(host.moves);
  });

  test('counts again as soon as the worker is there', async () => {
    const host = await stranded();
    await reached(() => host.job.isStalled);
    workerIsBack();
    await reached(() => !host.job.isStalled);
    const other = await moveOther(host);
    expect(other.state).toBe('queued');
    world.worker.goOn();
    expect(await other.finished()).toMatchObject({ state: 'succeeded' });
    await allOver(host.moves);
  });

  test('and is stopped meanwhile is undone once the worker is there', async () => {
    const host = await stranded();
    expect(host.job.cancel(new VmStorageError('OperationStopped', 'stop'))).toBe('requested');
    expect(await (await moveOther(host)).finished()).toMatchObject({ state: 'succeeded' });
    expect(host.job).toMatchObject({ state: 'cancelling', isStalled: true });
    workerIsBack();
    expect(await host.job.finished()).toMatchObject({ state: 'cancelled' });
    expect(fs.existsSync(world.fast)).toBe(false);
    expect(host.ports.locks.isMoving(vmId)).toBe(false);
  });

  test('leaves its place, but neither its VM, its paths nor its room, also over a restart of the host', async () => {
    const host = await strandedOverRestart();
    expect(await (await moveOther(host)).finished()).toMatchObject({ state: 'succeeded' });
    expect(host.job).toMatchObject({ state: 'running', isStalled: true });
    const vm = host.ports.registry.byId(vmId)!;
    await expect(host.moves.submit(vm, toFolder(path.join(world.root, 'third')))).rejects.toMatchObject({ code: 'ObjectInUse' });
    const target = path.join(world.fast, 'Virtual Hard Disks', 'a.img');
    expect(host.ports.locks.pathHolder(target)).toMatch(/of the virtual machine "web01"$/);
    workerIsBack();
    host.claim.release();
    await host.moves.recover(vm, world.worker.status().journal);
    expect(host.ports.locks.pathHolder(target)).toMatch(/of the virtual machine "web01"$/);
    world.worker.goOn();
    expect(await host.job.finished()).toMatchObject({ state: 'succeeded' });
    expect(host.ports.locks.pathHolder(target)).toBeNull();
    expect(world.configuration().path).toBe(world.fast);
  });

  test('and whose worker cannot even be asked has failed, and says why; the VM stays as it is', async () => {
    const host = await strandedOverRestart();
    host.moves.abandon(vmId, new VmStorageError('OperationFailed', 'There is no storage worker.'));
    const message = expect.stringMatching(/could not be taken up: There is no storage worker\. /) as string;
    expect(await host.job.finished()).toMatchObject({ state: 'failed', error: { code: 'OperationFailed', message } });
    expect(host.ports.locks.isMoving(vmId)).toBe(true);
    expect(fs.existsSync(world.journal(vmId))).toBe(true);
    expect(await (await moveOther(host)).finished()).toMatchObject({ state: 'succeeded' });
  });

  test('and whose record cannot be read when it is back has failed; no other move of the VM begins over its journal', async () => {
    const host = await strandedOverRestart();
    workerIsBack();
    host.claim.release();
    fs.writeFileSync(path.join(world.state, 'moves', `${host.job.id}.json`), '{"schema":1');
    const vm = host.ports.registry.byId(vmId)!;
    await expect(host.moves.recover(vm, world.worker.status().journal)).rejects.toThrow(/is damaged/);
    expect(await host.job.finished()).toMatchObject({ state: 'failed' });
    expect(host.ports.locks.isMoving(vmId)).toBe(true);
    await expect(host.moves.submit(vm, toFolder(path.join(world.root, 'third')))).rejects.toMatchObject({ code: 'ObjectInUse' });
  });

  test('is looked after no longer than its host is open', async () => {
    const host = await strandedOverRestart();
    host.moves.close();
    const lookedMs = host.ports.clock.monotonicMs();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(host.ports.clock.monotonicMs() - lookedMs).toBeLessThan(2_000);
    expect(host.job.isStalled).toBe(false);
  });
});
