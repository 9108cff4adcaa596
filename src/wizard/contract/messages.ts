/**
 * What travels between the page and the gateway. Requests are POSTs with JSON and a bearer; the stream is text/event-stream read by fetch,
 * because EventSource can send no header.
 *
 * ```text
 * POST /api/session   { secret }               -> Session            once per secret; the only request without a bearer
 * POST /api/plan      { orders }               -> { plans }          one for each order, in its place
 * POST /api/move      { orders }               -> { begun }
 * POST /api/stop      { moveId }               -> { warnings }
 * GET  /api/stream                             -> StreamEvent ...
 * ```
 * An error is { error: Failure } with a status of 400 and above.
 */
import type { VMStorageMovePlanObject } from '../../../cmdlets/types/index.js';
import type { Bracket, Change } from '../../protocol/subscription.js';
import type { MoveOrder } from './order.js';

export interface Session {
  readonly bearer: string;
  readonly computerName: string;
  readonly user: string;
}

export interface Failure {
  readonly code: string;
  readonly message: string;
  readonly recommendedAction: string | null;
}

export interface Orders {
  readonly orders: readonly MoveOrder[];
}

export interface Planned {
  readonly plan: VMStorageMovePlanObject | null;
  /** Why there is none: the machine is gone, the host does not answer. Refusals of the plan are in it. */
  readonly failure: Failure | null;
}

export interface Begun {
  readonly vmId: string;
  readonly moveId: string | null;
  /** Null together with `moveId`: everything was where it was asked to be. */
  readonly failure: Failure | null;
  readonly warnings: readonly string[];
}

export type StreamEvent =
  | Change
  | Bracket
  /** Whether the host answers; while it does not, what was told last may be old. */
  | { readonly $t: 'Host'; readonly answers: boolean; readonly message: string | null };

/** Machines that are moved in one go. */
export const ORDERS_MAX = 500;
