/**
 * Room on the targets' file systems, promised to one move at a time. Without it two moves would each see the same free bytes, start,
 * and fill the file system together.
 *
 * ```text
 * free (statfs, what an ordinary user may use)
 *  ├── still to be written by moves that hold a promise: promised - what their target occupies already
 *  └── left: what a new move may ask for
 * ```
 *
 * A move asks for the length of each source plus what it may still grow: the guest may write every block of it while it is moved.
 * In memory only: a move that is found again after a restart of the host brings its promise with it (ledger.ts).
 */
import { VmStorageError } from '../model/errors.js';
import type { MoveFiles } from './ports.js';
import { bytesText } from './progress.js';

export interface SpaceNeed {
  readonly target: string;
  /** st_dev of the file system the target will be on. */
  readonly device: string;
  /** A folder on it that exists. */
  readonly folder: string;
  readonly bytes: bigint;
}

export interface SpacePromise {
  release(): void;
}

export class Space {
  readonly #promised = new Map<string, readonly SpaceNeed[]>();
  /** Looking and promising is one step: whoever comes second sees the first's promise. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(private readonly files: Pick<MoveFiles, 'facts' | 'freeBytes'>) {}

  /** Refuses (NoSpace) what would not fit now; promises nothing. */
  check(needs: readonly SpaceNeed[]): Promise<void> {
    return this.#inTurn(() => this.#look(needs));
  }

  /** The same, and keeps the room until released. */
  promise(moveId: string, needs: readonly SpaceNeed[]): Promise<SpacePromise> {
    return this.#inTurn(async () => {
      await this.#look(needs);
      return this.keep(moveId, needs);
    });
  }

  /** For a move that is under way already: its room is not to be given away, whatever is free. */
  keep(moveId: string, needs: readonly SpaceNeed[]): SpacePromise {
    this.#promised.set(moveId, needs);
    return { release: () => void this.#promised.delete(moveId) };
  }

  async #look(needs: readonly SpaceNeed[]): Promise<void> {
    for (const device of new Set(needs.map((need) => need.device))) {
      const mine = needs.filter((need) => need.device === device);
      const wanted = mine.reduce((sum, need) => sum + need.bytes, 0n);
      const folder = mine[0]!.folder;
      const free = await this.files.freeBytes(folder);
      const promised = await this.#outstanding(device);
      const left = free > promised ? free - promised : 0n;
      if (wanted <= left) continue;
      const others = promised > 0n ? `, of which ${bytesText(promised)} are promised to other moves` : '';
      throw new VmStorageError(
        'NoSpace',
        `There is not enough space at '${folder}': ${bytesText(wanted)} are needed (with room for the disks to grow), ${bytesText(free)} are free${others}.`,
        { target: folder, recommendedAction: 'Free some space there, or name another destination.' },
      );
    }
  }

  async #outstanding(device: string): Promise<bigint> {
    let sum = 0n;
    for (const need of [...this.#promised.values()].flat()) {
      if (need.device !== device) continue;
      const written = (await this.files.facts(need.target))?.allocatedBytes ?? 0n;
      if (written < need.bytes) sum += need.bytes - written;
    }
    return sum;
  }

  #inTurn<T>(body: () => Promise<T>): Promise<T> {
    const mine = this.#turn.then(body);
    this.#turn = mine.catch(() => undefined);
    return mine;
  }
}
