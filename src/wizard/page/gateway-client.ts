/** The page's side of src/wizard/contract/messages.ts. The bearer lives in this module's memory and nowhere else. */
import type { Begun, Failure, Planned, Session, StreamEvent } from '../contract/messages.js';
import type { MoveOrder } from '../contract/order.js';

export class GatewayError extends Error {
  constructor(
    readonly status: number,
    readonly failure: Failure,
  ) {
    super(failure.message);
  }
}

let bearer: string | null = null;

async function post<T>(path: string, body: object): Promise<T> {
  const response = await fetch(`/api/${path}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...(bearer === null ? {} : { Authorization: `Bearer ${bearer}` }) },
    body: JSON.stringify(body),
  });
  const answer = (await response.json()) as T & { error?: Failure };
  if (!response.ok || answer.error) throw new GatewayError(response.status, answer.error ?? unknownFailure(response.status));
  return answer;
}

export async function openSession(secret: string): Promise<Session> {
  const session = await post<Session>('session', { secret });
  bearer = session.bearer;
  return session;
}

export const planOrders = (orders: readonly MoveOrder[]): Promise<readonly Planned[]> =>
  post<{ plans: readonly Planned[] }>('plan', { orders }).then(({ plans }) => plans);

export const beginMoves = (orders: readonly MoveOrder[]): Promise<readonly Begun[]> =>
  post<{ begun: readonly Begun[] }>('move', { orders }).then(({ begun }) => begun);

export const stopMove = (moveId: string): Promise<readonly string[]> =>
  post<{ warnings: readonly string[] }>('stop', { moveId }).then(({ warnings }) => warnings);

/** Rejects when the stream ends, with the gateway's reason where it gave one. */
export async function readStream(tell: (event: StreamEvent) => void): Promise<never> {
  const response = await fetch('/api/stream', { headers: { Authorization: `Bearer ${bearer}` } });
  if (!response.ok || !response.body) {
    const { error } = (await response.json()) as { error?: Failure };
    throw new GatewayError(response.status, error ?? unknownFailure(response.status));
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error('the stream ended');
    const parts = (rest + value).split('\n\n');
    rest = parts.pop()!;
    for (const part of parts) if (part.startsWith('data: ')) tell(JSON.parse(part.slice(6)) as StreamEvent);
  }
}

const unknownFailure = (status: number): Failure => ({ code: 'ProtocolError', message: `HTTP ${status}`, recommendedAction: null });
