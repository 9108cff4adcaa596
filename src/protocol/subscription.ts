/**
 * The subscription: a command of the host that is no cmdlet (host-commands.ts says how those are called), and does not end by itself.
 *
 * ```text
 * C→H begin WATCH, process {}        H→C output { at: 'begin' }, output Change ..., output { at: 'current' }, output Change ...
 * ```
 * Between `begin` and `current` comes all there is, once each; afterwards what changes, as it is when it is sent: a client that reads slowly gets
 * fewer and later states, never old ones. A `begin` in the middle says that what was told before no longer counts. It ends with the connection;
 * whoever wants to go on after a restart of the host asks again, and has the state first.
 */
import type { WireObject } from './messages.js';

export const WATCH = 'host watch';

/** A `fault` is a machine that is registered and whose configuration cannot be used: there is no machine to tell of. */
export type WatchedKind = 'machine' | 'fault' | 'move' | 'place' | 'host';

/** Something that changed; `value` is an object of cmdlets/types, for a place a Place, for a fault a Fault; null: it is gone. */
export interface Change {
  readonly $t: 'Change';
  readonly kind: WatchedKind;
  readonly id: string;
  readonly value: WireObject | null;
}

export interface Bracket {
  readonly $t: 'Bracket';
  readonly at: 'begin' | 'current';
}

/** A file system that may hold disks. Byte counts are decimal strings. */
export interface Place {
  readonly $t: 'Place';
  /** Its mount point, which is its id as well. */
  readonly path: string;
  /** What is mounted: a device, an export. */
  readonly device: string;
  readonly fileSystem: string;
  readonly bytesTotal: string;
  readonly bytesFree: string;
  readonly isReadOnly: boolean;
  /** Part of the last seconds in which the device had requests, 0 to 100; null where the kernel does not count them. */
  readonly busyPercent: number | null;
  readonly bytesReadPerSecond: number | null;
  readonly bytesWrittenPerSecond: number | null;
  /** Why it cannot be looked at, or null. */
  readonly trouble: string | null;
}

export interface Fault {
  readonly $t: 'Fault';
  readonly vmId: string;
  readonly configurationFile: string;
  /** The rule that it breaks. */
  readonly reason: string;
}

export const asWire = (told: Change | Bracket | Place | Fault): WireObject => told as unknown as WireObject;
