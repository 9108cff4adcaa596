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
 * A move asks for what it needs now (room.ts). What its disks may come to need beyond that is a warning with both figures, because a thin
 * disk is given away for more than there is on purpose; -RequireFullSize asks for all of it.
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
  /** What has to be free, and is promised. */
  readonly bytes: bigint;
  readonly data: bigint;
  readonly most: bigint;
  /** What the deletion of the source gives back on the same file system. */
  readonly returned: bigint;
}

/** Of one file system; all in bytes. */
export interface SpaceFigures {
  readonly folder: string;
  readonly wanted: bigint;
  readonly data: bigint;
  readonly most: bigint;
  readonly returned: bigint;
  readonly free: bigint;
  /** What other moves will still write. */
  readonly promised: bigint;
}

export interface SpacePromise {
  release(): void;
}

export class Space {
  readonly #promised = new Map<string, readonly SpaceNeed[]>();
  /** Looking and promising is one step: whoever comes second sees the first's promise. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(private readonly files: Pick<MoveFiles, 'facts' | 'freeBytes'>) {}

  /** Refuses (NoSpace) what would not fit now; promises nothing. Warns of what would not fit later. */
  check(needs: readonly SpaceNeed[]): Promise<readonly string[]> {
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

  /** The figures of each file system, whether they fit or not. */
  async figures(needs: readonly SpaceNeed[]): Promise<readonly SpaceFigures[]> {
    const all: SpaceFigures[] = [];
    for (const device of new Set(needs.map((need) => need.device))) {
      const mine = needs.filter((need) => need.device === device);
      const [wanted, data, most, returned] = (['bytes', 'data', 'most', 'returned'] as const).map((figure) =>
        mine.reduce((sum, need) => sum + need[figure], 0n),
      ) as [bigint, bigint, bigint, bigint];
      const folder = mine[0]!.folder;
      const free = await this.files.freeBytes(folder);
      all.push({ folder, wanted, data, most, returned, free, promised: await this.#outstanding(device) });
    }
    return all;
  }

  async #look(needs: readonly SpaceNeed[]): Promise<readonly string[]> {
    const warnings: string[] = [];
    for (const { folder, wanted, data, most, returned, free, promised } of await this.figures(needs)) {
      const left = free > promised ? free - promised : 0n;
      if (wanted <= left) {
        if (most > left + returned) warnings.push(overcommitted({ folder, wanted, most, left: left + returned }));
        continue;
      }
      const what = wanted === data ? '' : wanted === most ? ' (with room for the disks to grow)' : ' now (the data and a reserve)';
      const others = promised > 0n ? `, of which ${bytesText(promised)} are promised to other moves` : '';
      throw new VmStorageError(
        'NoSpace',
        `There is not enough space at '${folder}': ${bytesText(wanted)} are needed${what}, ${bytesText(free)} are free${others}.`,
        { target: folder, recommendedAction: 'Free some space there, or name another destination.' },
      );
    }
    return warnings;
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

function overcommitted({ folder, wanted, most, left }: { folder: string; wanted: bigint; most: bigint; left: bigint }): string {
  return (
    `The disks need ${bytesText(wanted)} at '${folder}' now and may grow to ${bytesText(most)}; there is room for ${bytesText(left)}, ` +
    `${bytesText(most - left)} less. The move is stopped if the room runs out meanwhile; -RequireFullSize refuses it beforehand.`
  );
}
