/** One connection to one worker process: requests, answers and events in frames (src/protocol/worker.ts). */
import { connect, type Socket } from 'node:net';
import { VmStorageError } from '../model/errors.js';
import type { NativePeer } from '../native/binding.js';
import { socketPeer } from '../native/socket-peer.js';
import { encodeFrame, FrameDecoder } from '../protocol/frames.js';
import type { WireError } from '../protocol/messages.js';
import { fromWireError } from '../protocol/wire-error.js';
import type { WorkerEvent, WorkerMethod, WorkerMethods } from '../protocol/worker.js';
import type { CallOptions } from './services.js';

export const CALL_LIMIT_MS = 30_000;
/** Requests without an answer; the host asks a worker one or two things at a time, so more means a worker that no longer answers. */
const WAITING_MAX = 256;

interface Waiting {
  readonly resolve: (value: never) => void;
  readonly reject: (error: Error) => void;
}

export class WorkerLink {
  /** Resolves, with the reason, when the connection is over. */
  readonly closed: Promise<string>;
  readonly #waiting = new Map<number, Waiting>();
  readonly #listeners = new Set<(event: WorkerEvent) => void>();
  readonly #decoder = new FrameDecoder();
  #nextId = 1;

  private constructor(
    private readonly socket: Socket,
    /** The process that listens, as the kernel knows it; null when the connection was over at once. */
    readonly peer: NativePeer | null,
  ) {
    this.closed = new Promise((resolve) => {
      let reason = 'the worker closed the connection';
      socket.on('error', (error) => (reason = error.message));
      socket.on('data', (chunk: Buffer) => {
        try {
          for (const message of this.#decoder.push(chunk)) this.#receive(message);
        } catch (error) {
          socket.destroy(error instanceof Error ? error : new Error(String(error)));
        }
      });
      socket.on('close', () => {
        for (const waiting of this.#waiting.values()) waiting.reject(lost(reason));
        this.#waiting.clear();
        resolve(reason);
      });
    });
  }

  /** Rejects with the socket's error: ENOENT and ECONNREFUSED mean that no worker is there. */
  static open(path: string): Promise<WorkerLink> {
    return new Promise((resolve, reject) => {
      const socket = connect(path);
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        try {
          resolve(new WorkerLink(socket, socketPeer(socket)));
        } catch (error) {
          socket.destroy();
          reject(error as Error);
        }
      });
    });
  }

  call<M extends WorkerMethod>(
    method: M,
    params: WorkerMethods[M]['params'],
    options: CallOptions = {},
  ): Promise<WorkerMethods[M]['result']> {
    const { timeoutMs = CALL_LIMIT_MS, signal } = options;
    return new Promise((resolve, reject) => {
      if (this.socket.destroyed) return reject(lost('the connection is closed'));
      if (this.#waiting.size >= WAITING_MAX)
        return reject(new VmStorageError('OperationFailed', `The worker has not answered ${WAITING_MAX} requests.`));
      const id = this.#nextId++;
      const abandon = (why: string): void =>
        settle(() => reject(new VmStorageError('OperationFailed', `The worker was asked '${method}' but ${why}.`)));
      const timer = timeoutMs > 0 ? setTimeout(() => abandon(`did not answer within ${timeoutMs} ms`), timeoutMs) : undefined;
      const onAbort = (): void => abandon('the request was abandoned');
      const settle = (finish: () => void): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
        this.#waiting.delete(id);
        finish();
      };
      if (signal?.aborted) return onAbort();
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiting.set(id, { resolve: (value) => settle(() => resolve(value)), reject: (error) => settle(() => reject(error)) });
      this.socket.write(encodeFrame({ id, method, params }));
    });
  }

  subscribe(listener: (event: WorkerEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.socket.destroy();
  }

  #receive(message: unknown): void {
    if (typeof message !== 'object' || message === null) throw new Error('a frame of the worker is not an object');
    if ('event' in message) {
      for (const listener of this.#listeners) listener(message as WorkerEvent);
      return;
    }
    if (!('id' in message) || typeof message.id !== 'number') throw new Error('a frame of the worker is neither answer nor event');
    const waiting = this.#waiting.get(message.id);
    if (!waiting) return; // abandoned
    if ('error' in message && message.error) waiting.reject(fromWireError(message.error as WireError, 'OperationFailed'));
    else waiting.resolve(('result' in message ? message.result : {}) as never);
  }
}

const lost = (reason: string): VmStorageError =>
  new VmStorageError('HostConnectionLost', `The worker ended before it answered (${reason}).`);
