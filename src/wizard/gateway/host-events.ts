/** The host's subscription for one page, over losses of the connection and restarts of the host: the state comes first each time. */
import { setTimeout as delay } from 'node:timers/promises';
import { ClientConnection, connectionLost, hostError } from '../../client/connection.js';
import { VmStorageError } from '../../model/errors.js';
import { WATCH } from '../../protocol/subscription.js';
import type { StreamEvent } from '../contract/messages.js';

const AGAIN_FIRST_MS = 250;
const AGAIN_MOST_MS = 5_000;

/** Reads on only when the next event is asked for: a slow page slows its own subscription, which then skips states. Ends with `signal`. */
export async function* hostEvents(address: string, signal: AbortSignal): AsyncGenerator<StreamEvent> {
  let waitMs = AGAIN_FIRST_MS;
  while (!signal.aborted) {
    try {
      for await (const event of oneConnection(address, signal)) {
        waitMs = AGAIN_FIRST_MS;
        yield event;
      }
    } catch (error) {
      if (signal.aborted) return;
      yield { $t: 'Host', answers: false, message: error instanceof Error ? error.message : String(error) };
    }
    await delay(waitMs, undefined, { signal }).catch(() => {}); // aborted: the loop ends
    waitMs = Math.min(waitMs * 2, AGAIN_MOST_MS);
  }
}

async function* oneConnection(address: string, signal: AbortSignal): AsyncGenerator<StreamEvent> {
  const connection = await ClientConnection.open(address);
  const close = (): void => connection.close();
  signal.addEventListener('abort', close, { once: true });
  try {
    if (signal.aborted) return;
    await connection.greet('wizard');
    await connection.send({ k: 'begin', cmdlet: WATCH, cwd: '/', prefs: { verbose: false, debug: false, progress: false } });
    await connection.send({ k: 'process', seq: 1, parameterSet: '', bound: {} });
    yield { $t: 'Host', answers: true, message: null };
    for (;;) {
      const message = await connection.receive();
      if (message?.k === 'output') yield message.v as unknown as StreamEvent;
      else if (message === undefined) throw connectionLost();
      else if (message.k === 'error' || message.k === 'terminating') throw hostError(message.e);
      else throw new VmStorageError('ProtocolError', `The VM storage host sent '${message.k}' in a subscription.`);
    }
  } finally {
    signal.removeEventListener('abort', close);
    connection.close();
  }
}
