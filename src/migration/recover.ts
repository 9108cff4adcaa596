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
 *
 * What is not in that table cannot come about in the order of the steps (docs/design/0002-the-move.md): a record was lost, damaged or
 * restored from a copy. Then nothing goes on, nothing is served and nothing is deleted ({@link contradiction}).
 */
import * as path from 'node:path';
import { VmStorageError } from '../model/errors.js';
import type { JournalPhase } from '../model/move.js';
import { writeIdentity } from '../os/file-identity.js';
import { isCommitted } from './follow.js';
import type { LedgerEntry, LedgerState } from './ledger.js';
import type { JournalStatus, MoveFiles } from './ports.js';
import type { EntryPoint } from './run.js';

export interface Continuation {
  readonly from: Exclude<EntryPoint, 'prepare'>;
  /** Why it is undone. */
  readonly reason?: VmStorageError;
}

export type RegistrySays = 'source' | 'target' | 'other';

/** What is there of one move. */
export interface Found {
  /** Null: no entry. */
  readonly ledger: LedgerState | null;
  /** Null: no journal. */
  readonly journal: JournalPhase | null;
  readonly registry: RegistrySays;
  /** A target that is, or may be, of the move is there, or was seen once. */
  readonly begun: boolean;
}

/**
 * Why these records cannot be of one moment, or null.
 *
 * | journal | ledger | registry names | |
 * | --- | --- | --- | --- |
 * | before committed | none, open, undoing | the sources | source |
 * | committed or later | open, committed | the sources or the targets | target |
 * | committed or later | none | the targets | target |
 * | none | open, nothing begun | the sources | source |
 * | none | committed | the targets | target |
 * | none | undoing (to be cleaned, perhaps long ago), none | anything | what the registry names |
 * | anything else | | | nobody knows |
 */
export function contradiction({ ledger, journal, registry, begun }: Found): string | null {
  const names = registry === 'other' ? 'other files than this move knows' : registry === 'source' ? 'the old files' : 'the new files';
  if (journal === null) {
    if (ledger === null || ledger === 'undoing') return null;
    if (ledger === 'committed')
      return registry === 'target' ? null : `its move was completed, its journal is not there, and the registry names ${names}`;
    if (registry !== 'source') return `its move is only open, there is no journal, and the registry names ${names}`;
    return begun ? 'the journal of its move is not there, although the new files were begun' : null;
  }
  if (registry === 'other') return `its journal says ${journal}, and the registry names ${names}`;
  if (isCommitted(journal)) {
    if (ledger === 'undoing') return `its journal says ${journal}, and the host had begun to undo the move`;
    return ledger === null && registry === 'source'
      ? `its journal says ${journal}, the host knows of no move, and the registry names ${names}`
      : null;
  }
  if (ledger === 'committed') return `its journal says ${journal}, and the host had seen the switch`;
  return registry === 'target' ? `its journal says ${journal}, and the registry names ${names}` : null;
}

/** `found`: what the registry says, and whether a target is there. Throws where the records contradict each other. */
export function continuation(
  entry: LedgerEntry,
  journal: JournalPhase | null,
  bootId: string,
  found: Pick<Found, 'registry' | 'begun'>,
): Continuation {
  const vm = `virtual machine "${entry.plan.vmName}"`;
  const committed = journal !== null && isCommitted(journal);
  const against = entry.plan.disks.length === 0 ? null : contradiction({ ledger: entry.state, journal, ...found });
  if (against !== null) {
    throw new VmStorageError(
      'InvalidState',
      `The records of move ${entry.plan.moveId} of the ${vm} contradict each other: ${against}. It is left alone.`,
      { recommendedAction: 'Resolve-VMStorageMove shows what is known of each side and lets you choose one.' },
    );
  }
  if (entry.state === 'undoing') {
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
    schema: 2,
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
