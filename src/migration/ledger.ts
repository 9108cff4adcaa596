/**
 * What the host must not forget of a move: one small file per move in the state folder, `moves/<move id>.json`, written before the
 * first byte goes to a destination and removed after the last step. It is the to-do list of recovery.
 *
 * ```text
 *          ┌──────────► undoing ──────► (removed)      nothing of ours is left at the destination, or the rest is retried
 *        open
 *          └──────────► committed ────► (removed)      the VM is on the targets, the sources are gone
 * ```
 *
 * A hash over the whole text is in it: a damaged entry is an entry that is damaged, never an older or a missing one. The way a file is
 * looked at, not what is in it, tells the two apart.
 *
 * The journal of the worker knows how far the *data* is; where it exists it outranks `open`. The ledger covers what the journal
 * cannot: folders made before it existed, the steps after it is removed, moves without disks, and files that could not be
 * deleted when they should have been.
 */
import { createHash } from 'node:crypto';
import * as path from 'node:path';
import { VmStorageError } from '../model/errors.js';
import type { MovePlan } from '../model/move.js';
import { isRefusedWrite } from '../os/errno.js';
import type { SourceFile, TargetFile } from './check.js';
import type { WrittenIdentity } from '../os/file-identity.js';
import type { MoveFiles } from './ports.js';
import { brokenRule } from './stored-schema.js';

export type LedgerState = 'open' | 'committed' | 'undoing';

export interface LedgerTarget extends TargetFile {
  /** Null until the worker has made the file. */
  readonly identity: WrittenIdentity | null;
}

export interface LedgerEntry {
  readonly schema: 2;
  readonly state: LedgerState;
  readonly plan: MovePlan;
  readonly openedAt: string;
  /** Null for a plan that came out of a journal after the switch: then no source can be proved to be the old one. */
  readonly sources: readonly SourceFile[] | null;
  readonly targets: readonly LedgerTarget[];
  /** Where the configuration goes, or null when it stays. */
  readonly configuration: TargetFile | null;
  /** Bytes promised per target (space.ts), decimal; `data` and `most` are room.ts's, and absent in a record of 0.1. */
  readonly needs: readonly {
    readonly target: string;
    readonly device: string;
    readonly folder: string;
    readonly bytes: string;
    readonly data?: string;
    readonly most?: string;
  }[];
  /** Why it is undone, or null. */
  readonly reason: string | null;
}

const mayBecome = {
  open: ['open', 'committed', 'undoing'],
  committed: ['committed'],
  undoing: ['undoing'],
} as const satisfies Record<LedgerState, readonly LedgerState[]>;

export class Ledger {
  constructor(
    private readonly folder: string,
    private readonly files: Pick<MoveFiles, 'list' | 'readText' | 'writeText' | 'deleteFile'>,
  ) {}

  /** Writes the entry; durable when it resolves. A state only goes forward. */
  async write(entry: LedgerEntry, previous: LedgerState = entry.state): Promise<LedgerEntry> {
    if (!(mayBecome[previous] as readonly LedgerState[]).includes(entry.state)) {
      throw new VmStorageError('HostInternalError', `Move ${entry.plan.moveId} cannot go from ${previous} to ${entry.state}.`);
    }
    await this.files.writeText(this.#file(entry.plan.moveId), encode(entry));
    return entry;
  }

  async remove(moveId: string): Promise<void> {
    await this.files.deleteFile(this.#file(moveId));
  }

  async read(moveId: string): Promise<LedgerEntry | null> {
    const text = await this.files.readText(this.#file(moveId));
    return text === null ? null : decode(text, this.#file(moveId));
  }

  /** All entries, and the files that are none: those are left alone and named. */
  async all(): Promise<{ readonly entries: readonly LedgerEntry[]; readonly unreadable: readonly DamagedEntry[] }> {
    const entries: LedgerEntry[] = [];
    const unreadable: DamagedEntry[] = [];
    for (const name of [...(await this.files.list(this.folder))].sort()) {
      const file = path.join(this.folder, name);
      let text = '';
      try {
        // Half written when the host ended: what it was to replace is still there.
        if (name.endsWith('.json.part')) await this.files.deleteFile(file).catch(unlessReadOnly);
        if (!name.endsWith('.json')) continue;
        text = (await this.files.readText(file)) ?? '';
        const entry = decode(text, file);
        // A copy under another name would be a move of its own.
        if (name !== `${entry.plan.moveId}.json`) throw damaged(file, `it is the record of move ${entry.plan.moveId}`);
        entries.push(entry);
      } catch (cause) {
        unreadable.push({ file, text, cause });
      }
    }
    return { entries, unreadable };
  }

  #file(moveId: string): string {
    return path.join(this.folder, `${moveId}.json`);
  }
}

/** It is in nobody's way. */
function unlessReadOnly(cause: unknown): void {
  if (!isRefusedWrite(cause)) throw cause;
}

/** A file that should be an entry and is none that can be used. */
export interface DamagedEntry {
  readonly file: string;
  readonly text: string;
  readonly cause: unknown;
}

const NO_HASH = '0'.repeat(64);
const HASH_AT_THE_END = /"sha256": "([0-9a-f]{64})"\n\}\n$/;

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** The hash is of the text with zeros in the hash's place. */
function encode(entry: LedgerEntry): string {
  const text = `${JSON.stringify({ ...entry, sha256: NO_HASH }, null, 1)}\n`;
  return text.replace(HASH_AT_THE_END, `"sha256": "${sha256(text)}"\n}\n`);
}

function damaged(file: string, why: string, cause?: unknown): VmStorageError {
  return new VmStorageError('HostInternalError', `'${file}' is damaged: ${why}.`, { target: file, cause });
}

function decode(text: string, file: string): LedgerEntry {
  const hash = HASH_AT_THE_END.exec(text)?.[1];
  if (hash === undefined) throw damaged(file, 'it does not end in the hash of its content');
  if (sha256(text.replace(HASH_AT_THE_END, `"sha256": "${NO_HASH}"\n}\n`)) !== hash)
    throw damaged(file, 'its content is not what was written');
  let entry: unknown;
  try {
    entry = JSON.parse(text);
  } catch (cause) {
    throw damaged(file, 'it does not hold JSON', cause);
  }
  const rule = brokenRule('entry', entry);
  if (rule !== null) throw damaged(file, `it is not the record of a move (${rule})`);
  const { sha256: _, ...content } = entry as LedgerEntry & { readonly sha256: string };
  return content;
}
