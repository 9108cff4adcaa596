/** What the page asks of the host: plans, moves and stops, each by the cmdlet that a person would use. */
import { invoke, type InvocationSink } from '../../client/invoke.js';
import { VmStorageError } from '../../model/errors.js';
import type { WireValue } from '../../protocol/messages.js';
import type { VMStorageMovePlanObject } from '../../../cmdlets/types/index.js';
import type { Begun, Failure, Planned } from '../contract/messages.js';
import { boundOf, type MoveOrder } from '../contract/order.js';

/** Plans at one time: one of a machine that is off needs a process for half a second. */
const TOGETHER = 4;

export function failureOf(error: unknown): Failure {
  if (!(error instanceof VmStorageError)) return { code: 'HostInternalError', message: String(error), recommendedAction: null };
  return { code: error.code, message: error.message, recommendedAction: error.recommendedAction ?? null };
}

export async function planAll(address: string, orders: readonly MoveOrder[], signal: AbortSignal): Promise<readonly Planned[]> {
  const plans: Planned[] = orders.map(() => ({ plan: null, failure: null }));
  let next = 0;
  const one = async (): Promise<void> => {
    for (let at = next++; at < orders.length; at = next++) plans[at] = await plan(address, orders[at]!, signal);
  };
  await Promise.all(Array.from({ length: Math.min(TOGETHER, orders.length) }, one));
  return plans;
}

async function plan(address: string, order: MoveOrder, signal: AbortSignal): Promise<Planned> {
  let found: VMStorageMovePlanObject | null = null;
  let failure: Failure | null = null;
  const { parameterSet, bound } = boundOf(order);
  try {
    await invoke(
      {
        ...{ cmdlet: 'Move-VMStorage', address, cwd: '/', client: 'wizard', signal },
        records: [{ parameterSet, bound: { ...bound, PassPlan: true } as { [name: string]: WireValue } }],
      },
      {
        ...silent,
        output: (value) => void (found = value as unknown as VMStorageMovePlanObject),
        error: (error) => void (failure = failureOf(error)),
        ask: () => false, // as -WhatIf
      },
    );
  } catch (error) {
    failure = failureOf(error);
  }
  return { plan: found, failure: found === null ? failure : null };
}

/** In their order, so that the line at the host is the order of the table. */
export async function beginAll(address: string, orders: readonly MoveOrder[]): Promise<readonly Begun[]> {
  const begun: Begun[] = [];
  for (const order of orders) begun.push(await begin(address, order));
  return begun;
}

/** Returns as soon as the host has taken the move; the connection is closed then, which does not concern the move. */
async function begin(address: string, order: MoveOrder): Promise<Begun> {
  let moveId: string | null = null;
  let failure: Failure | null = null;
  const warnings: string[] = [];
  const taken = new AbortController();
  const { parameterSet, bound } = boundOf(order);
  try {
    await invoke(
      {
        ...{ cmdlet: 'Move-VMStorage', address, cwd: '/', client: 'wizard', signal: taken.signal, prefs: { progress: true } },
        records: [{ parameterSet, bound: bound as { [name: string]: WireValue } }],
      },
      {
        ...silent,
        error: (error) => void (failure = failureOf(error)),
        text: (stream, text) => void (stream === 'warning' && warnings.push(text)),
        progress: ({ data }) => {
          moveId = String(data?.['moveId']);
          taken.abort();
        },
        ask: () => true,
      },
    );
  } catch (error) {
    if (moveId === null) failure = failureOf(error);
  }
  return { vmId: order.vmId, moveId, failure: moveId === null ? failure : null, warnings };
}

/** Waits until the move is undone, as Stop-VMStorageMove does. */
export async function stopMove(address: string, moveId: string, signal: AbortSignal): Promise<readonly string[]> {
  const warnings: string[] = [];
  await invoke(
    {
      ...{ cmdlet: 'Stop-VMStorageMove', address, cwd: '/', client: 'wizard', signal },
      records: [{ parameterSet: 'MoveId', bound: { MoveId: [moveId] } }],
    },
    {
      ...silent,
      error: (error) => {
        throw error;
      },
      text: (stream, text) => void (stream === 'warning' && warnings.push(text)),
      ask: () => true,
    },
  );
  return warnings;
}

const silent: Omit<InvocationSink, 'ask'> = { output: () => {}, error: () => {}, text: () => {}, progress: () => {} };
