/**
 * What an earlier host left: workers and guests that run, moves that are under way. Nothing of it is started or ended without need.
 *
 * | QEMU | worker | journal | what happens |
 * | --- | --- | --- | --- |
 * | runs | runs | any | both are found again |
 * | runs | gone | any | the worker is started again: the guest is waiting for it |
 * | gone | runs | none | the machine is off; the worker is released |
 * | gone | any | there | the worker is found or started: the move goes on as that of a machine that is off |
 */
import { access, readdir, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { VmStorageError } from '../model/errors.js';
import { waitUntil } from '../os/clock.js';
import { hasCode } from '../os/errno.js';
import type { Claim, HostServices, Hypervisor, Migration } from './services.js';
import type { HostWorkers } from './workers.js';

/** Guests found at one time; each is a few round trips. */
const PARALLEL = 16;
/** A worker that has to be started again for long is waited for in the background: cmdlets must be answered meanwhile. */
const ADOPT_LIMIT_MS = 5_000;

export interface RecoveryParts {
  readonly services: HostServices;
  readonly hypervisor: Hypervisor;
  readonly workers: HostWorkers;
}

/** Finds what runs. Returns the claims that keep interrupted moves from being started a second time before `resumeMoves` has them. */
export async function findRunning({ services, hypervisor, workers }: RecoveryParts): Promise<ReadonlyMap<string, Claim>> {
  const { registry, locks, paths, log, clock } = services;
  const vmIds = [...registry.list().map((vm) => vm.configuration.id), ...registry.faults().map((fault) => fault.vmId)];
  const claims = new Map<string, Claim>();
  const queue = [...vmIds];
  const adoptNext = async (): Promise<void> => {
    for (let vmId = queue.shift(); vmId !== undefined; vmId = queue.shift()) {
      try {
        const journal = await exists(paths.journal(vmId));
        if (journal) claims.set(vmId, locks.claimMove(vmId));
        const state = await hypervisor.adopt(vmId);
        const vm = registry.byId(vmId);
        const served = vm ? services.workers.servedDisks(vm).length > 0 : true;
        const adopted = workers
          .adopt(vmId, journal || (state !== 'Off' && served))
          .catch((error: unknown) => log.error({ vmId, error: String(error) }, 'a worker could not be found again'));
        await waitUntil(clock, ADOPT_LIMIT_MS, 20, settledOf(adopted));
        if (state === 'Off' && !journal) await workers.release(vmId);
      } catch (error) {
        log.error({ vmId, error: error instanceof Error ? error.stack : String(error) }, 'a machine could not be found again');
      }
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, adoptNext));
  await warnOfStrangers(services, new Set(vmIds));
  return claims;
}

/** Hands each interrupted move to the migration once its worker serves, however long that takes. */
export function resumeMoves(services: HostServices, migration: Migration, claims: ReadonlyMap<string, Claim>, ended: AbortSignal): void {
  for (const [vmId, claim] of claims) {
    void resume(vmId, claim).catch((error: unknown) => {
      if (ended.aborted) return;
      services.log.error(
        { vmId, error: error instanceof Error ? error.stack : String(error) },
        'an interrupted move could not be taken up; the machine stays claimed',
      );
      migration.abandon(vmId, error);
    });
  }

  async function resume(vmId: string, claim: Claim): Promise<void> {
    const worker = services.workers.peek(vmId);
    if (!worker) throw new VmStorageError('OperationFailed', 'There is no storage worker for it; the log of the host says why.');
    const { journal } = await worker.call('status', {}, { timeoutMs: 0, signal: ended });
    const vm = services.registry.byId(vmId);
    if (!vm) throw new VmStorageError('OperationFailed', 'Its configuration cannot be used.');
    claim.release(); // recover claims it before its first await
    await migration.recover(vm, journal); // null: the beginning of a move that did not last may have left something behind
    if (journal) return;
    services.log.warn({ vmId }, 'the worker knows of no move although there was a journal');
    await services.workers.release(vmId);
  }
}

/** Sockets of tool workers whose process is gone. */
export async function removeDeadToolSockets(runFolder: string): Promise<void> {
  for (const name of await readdir(runFolder)) {
    if (!/^tool-\d+-\d+\.sock$/.test(name)) continue;
    const path = join(runFolder, name);
    const dead = await new Promise<boolean>((resolve) => {
      const probe = connect(path, () => resolve(false)).on('error', (error) => resolve(hasCode(error, 'ECONNREFUSED')));
      probe.on('connect', () => probe.destroy());
    });
    if (dead) await rm(path, { force: true }).catch(() => {}); // in nobody's way: another has another number
  }
}

async function warnOfStrangers({ paths, log }: HostServices, known: ReadonlySet<string>): Promise<void> {
  for (const name of await readdir(paths.movesFolder).catch(() => [])) {
    const match = /^([0-9a-f-]{36})\.journal$/.exec(name);
    if (match && !known.has(match[1]!))
      log.error({ journal: join(paths.movesFolder, name) }, 'a journal belongs to no registered machine; it is left alone');
  }
}

function settledOf(promise: Promise<unknown>): () => true | undefined {
  let settled = false;
  void promise.finally(() => (settled = true));
  return () => (settled ? true : undefined);
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );
