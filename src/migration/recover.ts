/**
 * Where an interrupted move goes on. The ledger says what the host had decided, the journal what the worker had; the journal wins
 * where it is ahead. Another boot id means a power loss (or a reboot): the bitmaps of that time cannot be trusted, so a move that
 * was not committed is rolled back; one that was is completed, always.
 *
 * | ledger | journal | boot | goes on with |
 * | --- | --- | --- | --- |
 * | open | none | any | undo: the worker never began, or its beginning did not last |
 * | open | before committed | same | follow: the worker has resumed by itself |
 * | open | before committed | other | undo |
 * | open | committed or later | any | release |
 * | committed | any | any | release |
 * | undoing | none or before committed | any | undo |
 * | undoing | committed or later | any | nothing: they contradict each other, a person must look |
 */
import * as path from 'node:path';
import { VmStorageError } from '../model/errors.js';
import type { JournalPhase } from '../model/move.js';
import { writeIdentity } from './identity.js';
import { isCommitted } from './follow.js';
import type { LedgerEntry } from './ledger.js';
import type { JournalStatus, MoveFiles } from './ports.js';
import type { EntryPoint } from './run.js';

export interface Continuation {
  readonly from: Exclude<EntryPoint, 'prepare'>;
  /** Why it is undone. */
  readonly reason?: VmStorageError;
}

export function continuation(entry: LedgerEntry, journal: JournalPhase | null, bootId: string): Continuation {
  const vm = `virtual machine "${entry.plan.vmName}"`;
  const committed = journal !== null && isCommitted(journal);
  if (entry.state === 'undoing') {
    if (committed) {
      throw new VmStorageError(
        'HostInternalError',
        `The records of move ${entry.plan.moveId} of the ${vm} contradict each other; it is left alone.`,
      );
    }
    return {
      from: 'undo',
      reason: new VmStorageError('OperationFailed', entry.reason ?? 'The move was being undone when the host ended.'),
    };
  }
  if (entry.state === 'committed' || committed) return { from: 'release' };
  if (journal === null) {
    return { from: 'undo', reason: new VmStorageError('OperationFailed', 'The host ended while the move began; it was undone.') };
  }
  if (entry.plan.bootId !== bootId) {
    return { from: 'undo', reason: new VmStorageError('OperationFailed', 'The machine went down before the switch; the move was undone.') };
  }
  return { from: 'follow' };
}

/**
 * An entry for a journal that has none. It cannot happen in the order the steps have, but a state folder can be restored from a
 * backup; the journal holds the whole plan. After the switch no source can be proved to be the old one any more, so they are kept.
 */
export async function entryFromJournal(journal: JournalStatus, files: MoveFiles): Promise<LedgerEntry> {
  const { plan } = journal;
  const sources = await Promise.all(
    plan.disks.map(async ({ source }) => {
      const facts = await files.facts(source);
      const real = (await files.realPath(source)) ?? source;
      const folder = await files.facts(path.posix.dirname(real));
      return facts ? [{ path: source, identity: writeIdentity(facts), real, device: String((folder ?? facts).device) }] : [];
    }),
  );
  const targets = await Promise.all(
    plan.disks.map(async ({ target }) => {
      const facts = await files.facts(target);
      const folder = await files.facts(path.posix.dirname(target));
      return { path: target, device: String(folder?.device ?? 0n), identity: facts ? writeIdentity(facts) : null };
    }),
  );
  return {
    schema: 1,
    state: 'open',
    plan,
    openedAt: plan.createdAt,
    sources: isCommitted(journal.phase) ? null : sources.flat(),
    targets,
    configuration: plan.configurationTarget === plan.configurationSource ? null : { path: plan.configurationTarget, device: '0' },
    needs: [],
    reason: null,
  };
}
