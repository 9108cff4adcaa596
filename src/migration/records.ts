/**
 * The three records of a move, compared before a worker serves a disk: what the journal, the ledger and the registry say of each other.
 * Where they do not agree nothing is served and nothing is deleted: the guest waits, without an error, until a person decides
 * (Resolve-VMStorageMove) or the right files are back.
 */
import * as path from 'node:path';
import { VmStorageError } from '../model/errors.js';
import type { MovePlan } from '../model/move.js';
import type { VmConfiguration } from '../model/vm.js';
import { readIdentity, bornAfter, sameFile } from '../os/file-identity.js';
import { Ledger, type DamagedEntry, type LedgerEntry } from './ledger.js';
import type { JournalStatus, MigrationPorts, MoveFiles } from './ports.js';
import { contradiction, type RegistrySays } from './recover.js';

export type RecordPorts = Pick<MigrationPorts, 'registry' | 'paths' | 'files'>;

/** Where the registry's disks of a plan are: all at their sources, all at their targets, or neither. */
export function registrySays(plan: MovePlan, now: VmConfiguration | undefined): RegistrySays {
  const paths = plan.disks.map(({ disk }) => now?.disks.find(({ id }) => id === plan.after.disks[disk]?.id)?.path);
  if (plan.disks.every(({ source }, at) => paths[at] === source)) return 'source';
  if (plan.disks.every(({ target }, at) => paths[at] === target)) return 'target';
  return 'other';
}

/** True when a target is there that this move has made, or may have made. */
export async function isBegun(entry: LedgerEntry, files: Pick<MoveFiles, 'facts'>): Promise<boolean> {
  if (entry.targets.some((target) => target.identity !== null)) return true;
  for (const target of entry.targets) {
    const there = await files.facts(target.path);
    if (there?.kind !== 'file') continue;
    if (target.identity ? sameFile(there, readIdentity(target.identity)) : bornAfter(there, new Date(entry.openedAt))) return true;
  }
  return false;
}

export class Records {
  readonly #ledger: Ledger;

  constructor(private readonly ports: RecordPorts) {
    this.#ledger = new Ledger(ports.paths.movesFolder, ports.files);
  }

  /**
   * All that the ledger has of one VM. A damaged entry is the VM's if it names it anywhere (it does so several times) or has the name of
   * the move that its journal is of.
   */
  async of(
    vmId: string,
    moveId?: string,
  ): Promise<{ readonly entries: readonly LedgerEntry[]; readonly damaged: readonly DamagedEntry[] }> {
    const { entries, unreadable } = await this.#ledger.all();
    const concerns = ({ file, text }: DamagedEntry): boolean => path.basename(file, '.json') === moveId || text.includes(vmId);
    return { entries: entries.filter((entry) => entry.plan.vmId === vmId), damaged: unreadable.filter(concerns) };
  }

  /** Throws what keeps the disks of a VM from being served whose journal cannot be read, or is not there although the marks say one was. */
  async refuseUnreadable(vmId: string, cause: unknown): Promise<never> {
    if (!isDamage(cause)) throw cause;
    const { entries } = await this.of(vmId);
    const entry = entries.find(({ state }) => state !== 'undoing') ?? entries[0];
    throw undecided(vmId, reasonOf(cause), entry?.plan, this.ports.paths.journal(vmId));
  }

  /** Throws what keeps the VM's disks from being served. `journal`: what its worker has read, null when there is none. */
  async judge(vmId: string, journal: JournalStatus | null): Promise<void> {
    const { entries, damaged } = await this.of(vmId, journal?.plan.moveId);
    const now = this.ports.registry.byId(vmId)?.configuration;
    if (now === undefined) return;
    if (journal) {
      const { plan, phase } = journal;
      for (const { cause } of damaged) throw undecided(vmId, `beside its journal, ${reasonOf(cause)}`, plan, journal.path);
      const entry = entries.find((one) => one.plan.moveId === plan.moveId) ?? null;
      if (plan.vmId !== vmId) throw undecided(vmId, `the journal '${journal.path}' is of another virtual machine (${plan.vmId})`);
      const registry = registrySays(plan, now);
      const found = contradiction({ ledger: entry?.state ?? null, journal: phase, registry, begun: true });
      if (found !== null) throw undecided(vmId, found, plan, journal.path);
      return;
    }
    // Without a journal no move is between its sides, so the registry is right whatever a damaged entry had said; nobody acts upon that.
    for (const entry of entries) {
      if (entry.plan.disks.length === 0) continue;
      const registry = registrySays(entry.plan, now);
      const begun = await isBegun(entry, this.ports.files);
      const found = contradiction({ ledger: entry.state, journal: null, registry, begun });
      if (found !== null) throw undecided(vmId, found, entry.plan, path.join(this.ports.paths.movesFolder, `${entry.plan.moveId}.json`));
    }
  }
}

/** Of what an engine says of a journal: it was looked at and is not to be believed. Anything else may be otherwise when asked again. */
export function isDamage(cause: unknown): boolean {
  return cause instanceof VmStorageError && ['ImageCorrupt', 'ImageUnsupported', 'StorageFailure'].includes(cause.code);
}

function undecided(vmId: string, what: string, plan?: MovePlan, file?: string): VmStorageError {
  const sides = plan?.disks.map(({ source, target }) => `'${source}' or '${target}'`).join(', ');
  const between = sides === undefined ? '' : ` The disks are ${sides}.`;
  const where = file === undefined || what.includes(file) ? '' : ` ('${file}')`;
  return new VmStorageError(
    'InvalidState',
    `It is not certain which files are the disks of the virtual machine: ${what}${where}.${between} Nothing is served and nothing is deleted until Resolve-VMStorageMove says which`,
    { target: vmId, recommendedAction: 'Resolve-VMStorageMove shows what is known of each side and lets you choose one.' },
  );
}

const reasonOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause)).replace(/\.$/, '');
