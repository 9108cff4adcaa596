/**
 * Resolve-VMStorageMove: a person says which files are a VM's disks, where the records of its move do not ({@link Records.judge}).
 *
 * ```text
 * registry names the chosen files ─► ledger entries set aside ─► journal set aside ─► marks deleted ─► the worker serves
 * ```
 * After a crash between two steps the records contradict each other still, and it is asked for again, or they say what was chosen. Nothing is deleted: the files of the
 * other side and the records stay, for whoever wants to look at them.
 */
import * as fs from 'node:fs/promises';
import { VmStorageError } from '../model/errors.js';
import type { MovePlan } from '../model/move.js';
import type { VmConfiguration } from '../model/vm.js';
import { asMoveError } from './move-error.js';
import type { CmdletContext, JournalStatus, MigrationPorts, VmRecord } from './ports.js';
import { isDamage, Records, registrySays } from './records.js';
import type { StorageMoves } from './moves.js';
import { findOne } from './named-vms.js';
import { readVm } from './request.js';

/** A worker that is just ending holds the journal for a moment. */
const JOURNAL_WAIT_MS = 5_000;

type Use = 'Source' | 'Destination';

interface Known {
  readonly journal: JournalStatus | null;
  /** Why the journal cannot be used. */
  readonly journalError: string | null;
  /** Of the journal, else of the ledger; null when neither can be read. */
  readonly plan: MovePlan | null;
  /** Ledger entries of this VM, usable and damaged ones. */
  readonly ledgerFiles: readonly { readonly file: string; readonly says: string }[];
  readonly registry: string;
}

export async function resolveMove(context: CmdletContext, moves: StorageMoves, ports: MigrationPorts): Promise<void> {
  const vm = findOne(readVm(context.bound), ports);
  const use = readUse(context.bound['Use']);
  const { id, name } = vm.configuration;
  refuseServed(vm, ports);
  const known = await whatIsKnown(vm, ports);
  const why = await whyUndecided(id, known, ports);
  if (why === null) throw agreed(name);
  if (known.plan === null) throw noSides(name, known);
  const facts = (await tell(known, known.plan, ports)).map((fact) => `  ${fact}`);
  const told = ['What is known:', ...facts].join('\n');
  const files = known.plan.disks.map((disk) => `"${use === 'Source' ? disk.source : disk.target}"`).join(', ');
  const sentence = `Resolve-VMStorageMove will make ${files} the disks of the virtual machine "${name}".`;
  if (!(await context.shouldProcess(`${sentence}\n${told}`, 'Resolve-VMStorageMove'))) return;
  // In the question itself: that is what a person sees wherever it is asked, in PowerShell and by the command.
  const question = `Writes that only the other files hold are not seen by the virtual machine any more. Are you sure that the newest data is in ${files}?`;
  const asked = `The records of the virtual machine "${name}" do not say which files are its disks. ${told}\n${question}`;
  if (context.bound['Force'] !== true && !(await context.shouldContinue(asked, 'Resolve-VMStorageMove'))) return;
  const kept = await decide(vm, known, known.plan, use, ports);
  await moves.resolved(id);
  for (const file of kept) await context.verbose(`The record was kept as '${file}'.`);
  await context.verbose(`The virtual machine "${name}" uses ${files}. The other files were left as they are.`);
}

/** PowerShell takes a value of a ValidateSet in any case and hands it on as it was written. */
function readUse(given: unknown): Use {
  const use = (['Source', 'Destination'] as const).find((one) => typeof given === 'string' && one.toLowerCase() === given.toLowerCase());
  if (use === undefined) throw new VmStorageError('InvalidParameter', '-Use takes Source or Destination.');
  return use;
}

/** What serves now goes on with what it has open; only when nothing is served can it be decided anew. */
function refuseServed({ configuration: { id, name } }: VmRecord, { workers, hypervisor }: MigrationPorts): void {
  if ((workers.peek(id)?.pid ?? null) === null) return;
  const on = hypervisor.runtime(id).state !== 'Off';
  throw new VmStorageError(
    'InvalidState',
    `The disks of the virtual machine "${name}" are being served; there is nothing to decide about them${on ? ' while it runs' : ''}.`,
    {
      target: name,
      recommendedAction: 'Get-VM and Get-VMStorageMove say what the machine and its move are doing.',
    },
  );
}

async function whatIsKnown({ configuration: { id } }: VmRecord, ports: MigrationPorts): Promise<Known> {
  const { paths, workers } = ports;
  let journal: JournalStatus | null = null;
  let journalError: string | null = null;
  try {
    const params = { journalPath: paths.journal(id), marksPath: paths.marks(id), lockWaitMs: JOURNAL_WAIT_MS };
    ({ journal } = await workers.tool((tool) => tool.call('readJournal', params)));
  } catch (cause) {
    // Somebody still has it, or the look itself failed: that says nothing of the journal.
    if (!isDamage(cause)) throw cause;
    journalError = asMoveError(cause).message;
  }
  const { entries, damaged } = await new Records(ports).of(id, journal?.plan.moveId);
  const entry =
    entries.find((one) => one.plan.moveId === journal?.plan.moveId) ?? entries.find((one) => one.state !== 'undoing') ?? entries[0];
  const plan = journal?.plan ?? entry?.plan ?? null;
  const file = (moveId: string): string => `${paths.movesFolder}/${moveId}.json`;
  return {
    journal,
    journalError,
    plan,
    ledgerFiles: [
      ...entries.map((one) => ({ file: file(one.plan.moveId), says: one.state })),
      ...damaged.map((one) => ({
        file: one.file,
        says: asMoveError(one.cause).message.replace(`'${one.file}' is `, '').replace(/\.$/, ''),
      })),
    ],
    registry: plan === null ? 'unknown' : registrySays(plan, ports.registry.byId(id)?.configuration),
  };
}

async function whyUndecided(vmId: string, known: Known, ports: MigrationPorts): Promise<string | null> {
  if (known.journalError !== null) return known.journalError;
  try {
    await new Records(ports).judge(vmId, known.journal);
    return null;
  } catch (cause) {
    return asMoveError(cause).message;
  }
}

/** What there is to decide by, a line each. */
async function tell(known: Known, plan: MovePlan, ports: MigrationPorts): Promise<readonly string[]> {
  const side = async (word: string, at: string): Promise<string> => {
    const stat = await fs.stat(at, { bigint: true }).catch(() => null);
    if (!stat) return `${word} '${at}': not there`;
    return `${word} '${at}': ${stat.size} bytes, last written ${stat.mtime.toISOString()}, made ${stat.birthtime.toISOString()}, device ${stat.dev}, inode ${stat.ino}`;
  };
  const lines: string[] = [];
  for (const { source, target } of plan.disks) lines.push(await side('Source', source), await side('Destination', target));
  const journal = known.journalError ?? (known.journal === null ? 'there is none' : `its last record is ${known.journal.phase}`);
  lines.push(`Journal '${ports.paths.journal(plan.vmId)}': ${journal}`);
  const witness = ports.paths.witness(plan.vmId);
  lines.push(`Witness '${witness}': ${(await ports.files.facts(witness)) ? 'there; the move has switched' : 'there is none'}`);
  for (const { file, says } of known.ledgerFiles) lines.push(`Record of the host '${file}': ${says}`);
  if (known.ledgerFiles.length === 0) lines.push('Record of the host: there is none');
  lines.push(
    `The registry names ${known.registry === 'other' ? 'other files' : `the ${known.registry === 'target' ? 'destination' : known.registry}`}`,
  );
  const receipt = await ports.files.readText(`${ports.paths.journal(plan.vmId)}.receipt`).catch(() => null);
  if (receipt !== null) lines.push('A receipt of the comparison of both sides is there: they were equal once.');
  return lines;
}

type DecisionStep = 'registry' | 'ledger' | 'journal';

/**
 * In which order the records are brought into line, so that after each step they contradict each other still, or say what was chosen.
 * A registry that names other files may be the whole contradiction: once it is mended, ledger and journal, which agree, would choose their side.
 */
export function decisionSteps(hasJournal: boolean, registry: string): readonly DecisionStep[] {
  return hasJournal && registry === 'other' ? ['ledger', 'registry', 'journal'] : ['registry', 'ledger', 'journal'];
}

/** Returns where the records are kept. */
async function decide(vm: VmRecord, known: Known, plan: MovePlan, use: Use, ports: MigrationPorts): Promise<readonly string[]> {
  const { registry, files, paths, locks, workers } = ports;
  const { id } = vm.configuration;
  const kept: string[] = [];
  await locks.exclusive(id, async () => {
    const now = registry.byId(id);
    if (!now) throw new VmStorageError('ObjectNotFound', `The virtual machine ${id} is not registered any more.`, { target: id });
    const steps: { readonly [step in DecisionStep]: () => Promise<void> } = {
      registry: async () => {
        await registry.writeConfiguration(withDisks(now.configuration, plan, use), now.configurationFile);
        await registry.repoint(id, now.configurationFile);
      },
      ledger: async () => {
        for (const { file } of known.ledgerFiles) kept.push(...(await files.setAside(file)));
      },
      // A witness alone is a journal that is missing: refused, so this order.
      journal: async () => {
        for (const file of [paths.journal(id), paths.witness(id)]) kept.push(...(await files.setAside(file)));
      },
    };
    await workers.betweenAttempts(id, async () => {
      for (const step of decisionSteps(known.journal !== null, known.registry)) await steps[step]();
      await files.deleteFile(paths.marks(id));
    });
  });
  return kept;
}

function withDisks(now: VmConfiguration, plan: MovePlan, use: Use): VmConfiguration {
  const paths = new Map(plan.disks.map(({ disk, source, target }) => [plan.after.disks[disk]?.id, use === 'Source' ? source : target]));
  return { ...now, disks: now.disks.map((disk) => ({ ...disk, path: paths.get(disk.id) ?? disk.path })) };
}

function agreed(name: string): VmStorageError {
  return new VmStorageError(
    'InvalidState',
    `The records of the virtual machine "${name}" do not contradict each other; there is nothing to decide.`,
    { target: name },
  );
}

function noSides(name: string, { journalError }: Known): VmStorageError {
  return new VmStorageError(
    'InvalidState',
    `No record says between which files the storage of the virtual machine "${name}" was moved (${journalError ?? 'there is no journal'}).`,
    {
      target: name,
      recommendedAction:
        'Restore the journal or the record of the move, or move them away to go on with the files that the registry names.',
    },
  );
}
