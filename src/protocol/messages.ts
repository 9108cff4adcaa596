/**
 * What travels between a client (cmdlet, CLI) and the host: 4-byte little-endian length, then UTF-8 JSON; one connection per
 * cmdlet invocation. 64-bit integers travel as decimal strings (`"40000000000"`), dates as ISO 8601 UTC, time spans in .NET's
 * "c" form, GUIDs in "D" form, enums by name. `parameterSet` comes with every record.
 *
 * ```text
 * C→H hello, begin, process, process ..., end          reply (to ask)        stop
 * H→C hello, output|error|warning|verbose|debug|information|progress ..., processed, ..., completed | terminating
 * ```
 * Closing the connection aborts a query; it does not cancel a move. `stop` (Ctrl+C, Stop-Job) cancels a move explicitly.
 */
export const PROTOCOL_VERSION = 1;
/** A frame larger than this closes the connection that sent it. 10 000 VMs are about 4 MB. */
export const MAX_FRAME_BYTES = 64 * 1024 * 1024;

export type WireValue = null | boolean | number | string | WireValue[] | { [key: string]: WireValue };
/** An output object; `$t` names its type in cmdlets/types. */
export type WireObject = { $t: string } & { [key: string]: WireValue };

export interface WireError {
  message: string;
  errorId: string;
  category: string;
  code: string;
  target?: string;
  recommendedAction?: string;
}

export type ClientMessage =
  | { k: 'hello'; v: number; pid: number; client: string; module?: string; defs?: string }
  | { k: 'begin'; cmdlet: string; cwd: string; prefs: { verbose: boolean; debug: boolean; progress: boolean }; interactive?: boolean }
  | { k: 'process'; seq: number; parameterSet: string; bound: { [name: string]: WireValue } }
  | { k: 'end' }
  | { k: 'reply'; id: number; value: boolean }
  | { k: 'stop' }
  | { k: 'complete'; kind: string; word: string };

export interface WireProgress {
  k: 'progress';
  id: number;
  activity: string;
  status: string;
  /** 0..100, or -1 when unknown. */
  percent: number;
  secondsRemaining?: number;
  done?: boolean;
  /** Further figures for machines (the demo, --json): phase, bytesPerSecond, guestP99Us ... */
  data?: { [key: string]: WireValue };
}

/** The two questions of PowerShell: the first yields to -Confirm and $ConfirmPreference, the second is asked whatever they say. */
export type Question = 'shouldProcess' | 'shouldContinue';

export type HostMessage =
  | { k: 'hello'; v: number; host: string; defs?: string; pid: number }
  | { k: 'output'; v: WireObject }
  | { k: 'error'; e: WireError }
  | { k: 'terminating'; e: WireError }
  | { k: 'verbose' | 'warning' | 'debug' | 'information'; text: string }
  | WireProgress
  /** `last: false` says that more questions of this record follow; a client that makes a job hands over after the last one. */
  | { k: 'ask'; id: number; kind: Question; text: string; action: string; last?: boolean }
  | { k: 'processed'; seq: number }
  | { k: 'completed' }
  | { k: 'items'; items: { text: string; tip: string }[] };
