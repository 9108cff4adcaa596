/**
 * What the machines look like that are killed: processors, and with them the queues of each disk, and disks of other kinds and sizes.
 *
 * | shape  | processors | disks                                        | what it finds                                                    |
 * | ------ | ---------- | -------------------------------------------- | ---------------------------------------------------------------- |
 * | one    | 1          | 64 MiB VHDX, 64 MiB raw                      | one queue: requests that follow one another closely              |
 * | four   | 4          | the same                                     | requests in flight in four queues, each to be taken up again     |
 * | sparse | 4          | 64 TiB VHDX of 32 MiB blocks, 64 MiB raw     | whatever costs time or memory by the size of a disk, not its data |
 *
 * The guest uses the first 64 MiB of each disk; what lies behind them has to stay empty and is compared by extents, never read.
 */
const MIB = 2 ** 20;
const TIB = 2 ** 40;

/** What the guest uses of each disk; its ledger covers this much. */
export const SPAN_BYTES = 64 * MIB;

export interface CrashDisk {
  readonly leaf: string;
  readonly format: 'raw' | 'vhdx';
  readonly sizeBytes: number;
  /** Of a VHDX. Small blocks: many allocations while the disk moves; null: the default, 32 MiB. */
  readonly blockBytes: number | null;
}

export interface Shape {
  readonly name: string;
  readonly processors: number;
  readonly disks: readonly CrashDisk[];
}

const smallVhdx: CrashDisk = { leaf: 'system.vhdx', format: 'vhdx', sizeBytes: SPAN_BYTES, blockBytes: MIB };
const hugeVhdx: CrashDisk = { leaf: 'system.vhdx', format: 'vhdx', sizeBytes: 64 * TIB, blockBytes: null };
const smallRaw: CrashDisk = { leaf: 'data.img', format: 'raw', sizeBytes: SPAN_BYTES, blockBytes: null };

export const shapes: readonly Shape[] = [
  { name: 'one', processors: 1, disks: [smallVhdx, smallRaw] },
  { name: 'four', processors: 4, disks: [smallVhdx, smallRaw] },
  { name: 'sparse', processors: 4, disks: [hugeVhdx, smallRaw] },
];
