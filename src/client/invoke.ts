/**
 * Runs one cmdlet at the host, as the compiled cmdlets do: one connection, record by record, answers handed to a sink.
 *
 * `stop` sends the host a stop (what Ctrl+C does) and goes on reading until it has answered, for at most `stopPatienceMs`;
 * `signal` only closes, which ends a query and never a move.
 */
import { VmStorageError } from '../model/errors.js';
import type { Question, WireObject, WireProgress, WireValue } from '../protocol/messages.js';
import { hostAddress } from './address.js';
import { ClientConnection, connectionLost, hostError } from './connection.js';

/** How long a host may take to answer a stop; the module waits as long. */
export const stopPatienceMs = 10_000;

export interface InvocationRecord {
  readonly parameterSet: string;
  readonly bound: { readonly [name: string]: WireValue };
}

export interface InvocationSink {
  output(value: WireObject): void | Promise<void>;
  error(error: VmStorageError): void | Promise<void>;
  text(stream: 'verbose' | 'warning' | 'debug' | 'information', text: string): void | Promise<void>;
  progress(progress: WireProgress): void | Promise<void>;
  ask(kind: Question, text: string, caption: string): boolean | Promise<boolean>;
}

export interface InvokeOptions {
  readonly cmdlet: string;
  readonly records: readonly InvocationRecord[];
  /** Default: the address of the environment. */
  readonly address?: string;
  readonly cwd?: string;
  readonly prefs?: { verbose?: boolean; debug?: boolean; progress?: boolean };
  /** Who asks, for the host's log. */
  readonly client?: string;
  /** The definitions' hash, to notice a mixed installation. */
  readonly defs?: string;
  readonly stop?: AbortSignal;
  readonly signal?: AbortSignal;
}

/** Resolves when the host has completed; rejects with what ended the invocation (terminating, not reachable, lost). */
export async function invoke(options: InvokeOptions, sink: InvocationSink): Promise<void> {
  const connection = await ClientConnection.open(options.address ?? hostAddress());
  const close = (): void => connection.close();
  options.signal?.addEventListener('abort', close, { once: true });
  if (options.signal?.aborted) close();
  let patience: NodeJS.Timeout | undefined;
  const stop = (): void => {
    patience = setTimeout(close, stopPatienceMs);
    // A connection that is gone already shows in the next read.
    connection.send({ k: 'stop' }).catch(() => {});
  };
  try {
    const greeting = await connection.greet(options.client ?? 'client', options.defs === undefined ? {} : { defs: options.defs });
    if (options.defs !== undefined && greeting.defs !== undefined && greeting.defs !== options.defs) {
      await sink.text(
        'warning',
        `The cmdlets here are not those of the host (version ${greeting.host}). What both know works; install both from the same release.`,
      );
    }
    const prefs = {
      verbose: options.prefs?.verbose ?? false,
      debug: options.prefs?.debug ?? false,
      progress: options.prefs?.progress ?? false,
    };
    await connection.send({ k: 'begin', cmdlet: options.cmdlet, cwd: options.cwd ?? process.cwd(), prefs });
    if (options.stop?.aborted) throw new VmStorageError('OperationStopped', `${options.cmdlet} was stopped before it began.`);
    options.stop?.addEventListener('abort', stop, { once: true });
    let seq = 0;
    for (const record of options.records) {
      await connection.send({ k: 'process', seq: ++seq, parameterSet: record.parameterSet, bound: { ...record.bound } });
      await pump(connection, sink, 'processed');
      if (options.stop?.aborted) return;
    }
    await connection.send({ k: 'end' });
    await pump(connection, sink, 'completed');
  } catch (error) {
    if (patience !== undefined && connection.closedByUs && !options.signal?.aborted) {
      throw new VmStorageError(
        'HostConnectionLost',
        `The VM storage host did not answer the request to stop within ${stopPatienceMs / 1000} s. The operation may still be running; look with Get-VMStorageMove.`,
        { cause: error },
      );
    }
    throw error;
  } finally {
    clearTimeout(patience);
    options.signal?.removeEventListener('abort', close);
    options.stop?.removeEventListener('abort', stop);
    connection.close();
  }
}

async function pump(connection: ClientConnection, sink: InvocationSink, until: 'processed' | 'completed'): Promise<void> {
  for (;;) {
    const message = await connection.receive();
    if (message === undefined) {
      if (connection.closedByUs) throw new VmStorageError('OperationStopped', 'The call was given up.');
      throw connectionLost();
    }
    switch (message.k) {
      case 'output':
        await sink.output(message.v);
        break;
      case 'error':
        await sink.error(hostError(message.e));
        break;
      case 'terminating':
        throw hostError(message.e);
      case 'verbose':
      case 'warning':
      case 'debug':
      case 'information':
        await sink.text(message.k, message.text);
        break;
      case 'progress':
        await sink.progress(message);
        break;
      case 'ask':
        await connection.send({ k: 'reply', id: message.id, value: await sink.ask(message.kind, message.text, message.action) });
        break;
      case until:
        return;
      default:
        throw new VmStorageError('ProtocolError', `The VM storage host sent '${message.k}' while '${until}' was awaited.`);
    }
  }
}

export interface Collected {
  readonly output: WireObject[];
  readonly errors: VmStorageError[];
  readonly warnings: string[];
  readonly verbose: string[];
  readonly progress: WireProgress[];
}

/** For programs: runs one record with everything confirmed, and gives back all that came. */
export async function invokeAndCollect(
  cmdlet: string,
  parameterSet: string,
  bound: { readonly [name: string]: WireValue },
  options: Omit<InvokeOptions, 'cmdlet' | 'records'> = {},
): Promise<Collected> {
  const collected: Collected = { output: [], errors: [], warnings: [], verbose: [], progress: [] };
  await invoke(
    { ...options, cmdlet, records: [{ parameterSet, bound }] },
    {
      output: (value) => void collected.output.push(value),
      error: (error) => void collected.errors.push(error),
      text: (stream, text) =>
        void (stream === 'warning' ? collected.warnings.push(text) : stream === 'verbose' ? collected.verbose.push(text) : 0),
      progress: (progress) => void collected.progress.push(progress),
      ask: () => true,
    },
  );
  return collected;
}
