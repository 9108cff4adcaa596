/**
 * QEMU's monitor protocol: one JSON document per line over a Unix socket; greeting, capabilities, then commands and events.
 * QEMU talks to one client at a time and goes on without any: closing this connection never touches the guest.
 */
import { connect, type Socket } from 'node:net';
import { VmStorageError } from '../model/errors.js';
import { socketPeer } from '../native/socket-peer.js';

/** QEMU answers control commands within milliseconds unless its main loop hangs (storage, a stopped host). */
export const QMP_TIMEOUT_MS = 10_000;
/** The longest answer we ask for is a few KiB; a line beyond this is not QMP. */
const LINE_MAX_BYTES = 4 * 1024 * 1024;

export interface QmpEvent {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

interface Waiting {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

export class Qmp {
  /** Resolves, with the reason, when the connection is over. */
  readonly closed: Promise<string>;
  readonly #waiting = new Map<number, Waiting>();
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  readonly #greeting: Promise<void>;
  #greeted!: () => void;
  #buffered = '';
  #nextId = 1;

  private constructor(private readonly socket: Socket) {
    this.#greeting = new Promise((resolve) => (this.#greeted = resolve));
    socket.setEncoding('utf8');
    this.closed = new Promise((resolve) => {
      let reason = 'the connection was closed';
      socket.on('error', (error) => (reason = error.message));
      socket.on('data', (text: string) => {
        try {
          this.#receive(text);
        } catch (error) {
          socket.destroy(error instanceof Error ? error : new Error(String(error)));
        }
      });
      socket.on('close', () => {
        for (const waiting of this.#waiting.values()) {
          clearTimeout(waiting.timer);
          waiting.reject(new VmStorageError('HypervisorFailure', `QEMU did not answer '${waiting.command}': ${reason}.`));
        }
        this.#waiting.clear();
        resolve(reason);
      });
    });
  }

  /**
   * Connects and negotiates. Rejects with the socket's error (ENOENT, ECONNREFUSED), after `timeoutMs`, or when another process than `pid`
   * listens: what a monitor says is believed, and what it is told ends a guest. (The host makes the socket; QEMU, which inherits it, listens anew, and
   * is the one from then on.) `pid` null: any process.
   */
  static async open(path: string, pid: number | null, timeoutMs: number = QMP_TIMEOUT_MS): Promise<Qmp> {
    const socket = connect(path);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    const listener = socketPeer(socket)?.pid;
    if (pid !== null && listener !== pid) {
      socket.destroy();
      throw new VmStorageError(
        'HypervisorFailure',
        `The monitor '${path}' is that of process ${listener ?? '?'}, not of QEMU (pid ${pid}).`,
      );
    }
    return Qmp.over(socket, timeoutMs, `QEMU's monitor '${path}'`);
  }

  /** Negotiates over a socket that is connected, whoever connected it. */
  static async over(socket: Socket, timeoutMs: number = QMP_TIMEOUT_MS, name = "QEMU's monitor"): Promise<Qmp> {
    const qmp = new Qmp(socket);
    const timer = setTimeout(
      () => socket.destroy(new Error(`no greeting within ${timeoutMs} ms (another client may hold the monitor)`)),
      timeoutMs,
    );
    try {
      await Promise.race([
        qmp.#greeting,
        qmp.closed.then((reason) => {
          throw new VmStorageError('HypervisorFailure', `${name}: ${reason}.`);
        }),
      ]);
      await qmp.call('qmp_capabilities', {}, timeoutMs);
      return qmp;
    } catch (error) {
      qmp.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Rejects with QEMU's own words, or when no answer comes in time (the command may still have been carried out). */
  call(command: string, args: Record<string, unknown> = {}, timeoutMs: number = QMP_TIMEOUT_MS): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.socket.destroyed) {
        reject(new VmStorageError('HypervisorFailure', `QEMU cannot be asked '${command}': the connection is closed.`));
        return;
      }
      const id = this.#nextId++;
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new VmStorageError('HypervisorFailure', `QEMU did not answer '${command}' within ${timeoutMs} ms.`));
      }, timeoutMs);
      this.#waiting.set(id, { command, resolve, reject, timer });
      this.socket.write(JSON.stringify({ execute: command, arguments: args, id }) + '\n');
    });
  }

  subscribe(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.socket.destroy();
  }

  #receive(text: string): void {
    this.#buffered += text;
    for (let end = this.#buffered.indexOf('\n'); end >= 0; end = this.#buffered.indexOf('\n')) {
      const line = this.#buffered.slice(0, end);
      this.#buffered = this.#buffered.slice(end + 1);
      if (line.trim() !== '') this.#message(JSON.parse(line) as Record<string, unknown>);
    }
    if (this.#buffered.length > LINE_MAX_BYTES) throw new Error(`a line is longer than ${LINE_MAX_BYTES} bytes`);
  }

  #message(message: Record<string, unknown>): void {
    if ('QMP' in message) {
      this.#greeted();
    } else if (typeof message['event'] === 'string') {
      const event = { event: message['event'], data: (message['data'] ?? {}) as Record<string, unknown> };
      for (const listener of this.#listeners) listener(event);
    } else if (typeof message['id'] === 'number') {
      const waiting = this.#waiting.get(message['id']);
      if (!waiting) return; // its time had run out
      this.#waiting.delete(message['id']);
      clearTimeout(waiting.timer);
      const error = message['error'] as { desc?: string } | undefined;
      if (error)
        waiting.reject(new VmStorageError('HypervisorFailure', `QEMU refused '${waiting.command}': ${error.desc ?? 'no reason given'}.`));
      else waiting.resolve(message['return']);
    }
  }
}
