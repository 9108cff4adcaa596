/**
 * Is the file at this path the one that was there before? What is deleted hangs on the answer, so a doubt is a no.
 *
 * Inode numbers are used again soon after a file is deleted and device numbers may change at a reboot or a new mount; the time of
 * birth (statx, ext4 xfs btrfs f2fs tmpfs, nanoseconds) tells both cases apart. Where the file system keeps none, device and inode must agree.
 */
export interface KnownFile {
  readonly device: bigint;
  readonly inode: bigint;
  /** Nanoseconds since 1970; 0 when the file system does not keep it. */
  readonly bornNs: bigint;
}

/** The same in JSON: decimal strings. */
export interface WrittenIdentity {
  readonly device: string;
  readonly inode: string;
  readonly bornNs: string;
}

export function sameFile(now: KnownFile, then: KnownFile): boolean {
  if (now.inode !== then.inode) return false;
  if (now.bornNs !== 0n && then.bornNs !== 0n) return now.bornNs === then.bornNs;
  return now.device === then.device;
}

/** The kernel stamps births with the time of its last tick (up to 10 ms ago at 100 Hz), our clock with the present moment. */
const TICK_NS = 20_000_000n;

/** Whether the file was made after that moment. Without a time of birth nothing is proved: false. */
export function bornAfter(file: KnownFile, moment: Date): boolean {
  return file.bornNs !== 0n && file.bornNs + TICK_NS >= BigInt(moment.getTime()) * 1_000_000n;
}

export function writeIdentity(file: KnownFile): WrittenIdentity {
  return { device: String(file.device), inode: String(file.inode), bornNs: String(file.bornNs) };
}

export function readIdentity(written: WrittenIdentity): KnownFile {
  return { device: BigInt(written.device), inode: BigInt(written.inode), bornNs: BigInt(written.bornNs) };
}
