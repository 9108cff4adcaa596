/** The worker's socket: requests from the host, events to every connected host. Contract: src/protocol/worker.ts. */
import { chmodSync, renameSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { VmStorageError } from '../model/errors.js';
import { native, type NativeEngine } from '../native/binding.js';
import { callNative, fromNative } from '../native/errors.js';
import { encodeFrame, FrameDecoder } from '../protocol/frames.js';
import type { MoveStatus } from '../model/move.js';
import { toWireError } from '../protocol/wire-error.js';
import type { WorkerEvent, WorkerMethod, WorkerMethods, WorkerStatus } from '../protocol/worker.js';
import { imageMethods } from './images.js';

/** One host, perhaps its successor, and a test or two: more is a mistake. */
const CONNECTIONS_MAX = 16;
/** How long a worker waits for the writes of its dead predecessor to leave the kernel. The guest waits too and sees no error. */
const LOCK_WAIT_MS = 24 * 3600 * 1000;
/** How often the figures of a running move are sent. */
const PROGRESS_INTERVAL_MS = 250;
/** A tool worker whose host vanished ends by itself. */
const TOOL_IDLE_MS = 30_000;

export interface WorkerOptions {
  readonly socket: string;
  readonly vmId: string;
  readonly tool: boolean;
}

type Handlers = { [M in WorkerMethod]: (params: WorkerMethods[M]['params']) => Promise<WorkerMethods[M]['result']> };
type EngineStatus = Omit<WorkerStatus, 'pid' | 'vmId'>;

export class WorkerServer {
  readonly #options: WorkerOptions;
  readonly #server: Server;
  readonly #connections = new Set<Socket>();
  #engine: NativeEngine | null = null;
  /** The list that is served, or is being opened, and what becomes of it. */
  #served: { readonly asked: string; readonly done: Promise<void> } | null = null;
  #publishing = false;
  #progress: NodeJS.Timeout | null = null;
  #lastSent = '';

  constructor(options: WorkerOptions) {
    this.#options = options;
    this.#server = createServer((socket) => this.#accept(socket));
    if (options.tool) this.#armIdle();
  }

  /** Binds under a temporary name and renames: whoever sees the socket can connect to it. */
  async listen(): Promise<void> {
    const temporary = `${this.#options.socket}.${process.pid}`;
    rmSync(temporary, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(temporary, resolve);
    });
    chmodSync(temporary, 0o600);
    renameSync(temporary, this.#options.socket);
  }

  /** Nothing that fails from here on is told: it fails of the end, and whoever asked goes on with the next worker. */
  async end(exitCode: number): Promise<void> {
    if (this.#progress) clearInterval(this.#progress);
    rmSync(this.#options.socket, { force: true });
    for (const socket of this.#connections) socket.end();
    if (this.#engine) await this.#engine.close();
    process.exit(exitCode);
  }

  #armIdle(): void {
    setTimeout(() => {
      if (this.#connections.size === 0) void this.end(0);
      else this.#armIdle();
    }, TOOL_IDLE_MS);
  }

  #accept(socket: Socket): void {
    if (this.#connections.size >= CONNECTIONS_MAX) {
      socket.destroy();
      return;
    }
    this.#connections.add(socket);
    const decoder = new FrameDecoder();
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#connections.delete(socket));
    socket.on('data', (chunk: Buffer) => {
      try {
        for (const message of decoder.push(chunk)) this.#request(socket, message);
      } catch {
        // Broken framing: that connection is over, nothing else is touched.
        socket.destroy();
      }
    });
  }

  #request(socket: Socket, message: unknown): void {
    const { id, method, params } = (message ?? {}) as { id?: unknown; method?: unknown; params?: unknown };
    const handlers = this.#handlers as Record<string, (params: never) => Promise<unknown>>;
    const handler = typeof method === 'string' && Object.hasOwn(handlers, method) ? handlers[method] : undefined;
    if (typeof id !== 'number' || !handler) {
      socket.destroy();
      return;
    }
    handler((params ?? {}) as never).then(
      (result) => this.#send(socket, { id, result }),
      (error: unknown) => this.#send(socket, { id, error: toWireError(fromNative(error)) }),
    );
  }

  #send(socket: Socket, message: unknown): void {
    if (!socket.destroyed && socket.writable) socket.write(encodeFrame(message));
  }

  #broadcast(event: WorkerEvent): void {
    for (const socket of this.#connections) this.#send(socket, event);
  }

  #start(): NativeEngine {
    if (this.#options.tool) throw new VmStorageError('InvalidState', 'A tool worker serves no disks.');
    this.#engine ??= native().NativeEngine.start(() => void this.#publish());
    return this.#engine;
  }

  async #open({ disks, journalPath, marksPath, lockWaitMs = LOCK_WAIT_MS }: WorkerMethods['serve']['params']): Promise<void> {
    try {
      // By number, always: null would let the way to a disk lead through anybody's folders.
      const owned = disks.map((disk) => ({ ...disk, owner: disk.owner ?? process.geteuid!() }));
      await callNative(this.#start().serve(owned, journalPath, lockWaitMs, marksPath));
    } catch (error) {
      this.#served = null;
      throw error;
    }
    if ((await this.#status()).move) this.#follow();
  }

  async #status(): Promise<WorkerStatus> {
    const own = { pid: process.pid, vmId: this.#options.vmId };
    if (!this.#engine) return { ...own, io: '', disks: [], move: null, journal: null, longestTurn: null };
    const status = JSON.parse(await callNative(this.#engine.status())) as EngineStatus;
    return { ...own, ...status };
  }

  /** Sends the move's figures when they changed; called on every notice of the engine and by the clock. */
  async #publish(): Promise<void> {
    if (this.#publishing) return; // of a reactor that hangs one question is enough
    this.#publishing = true;
    const { move } = await this.#status().finally(() => (this.#publishing = false));
    if (!move) return;
    const text = JSON.stringify(move);
    if (text === this.#lastSent) return;
    this.#lastSent = text;
    this.#broadcast({ event: 'move', status: move });
    if (isOver(move) && this.#progress) {
      clearInterval(this.#progress);
      this.#progress = null;
    }
  }

  #follow(): void {
    this.#progress ??= setInterval(() => void this.#publish(), PROGRESS_INTERVAL_MS);
  }

  readonly #handlers: Handlers = {
    status: () => this.#status(),
    serve: async (params) => {
      const { vmId, disks } = params;
      if (vmId !== this.#options.vmId) {
        throw new VmStorageError('InvalidParameter', `This worker is of VM ${this.#options.vmId}, not of ${vmId}.`);
      }
      const asked = JSON.stringify(disks);
      if (this.#served && this.#served.asked !== asked) {
        throw new VmStorageError(
          'InvalidState',
          `This worker serves other disks already (${this.#served.asked}) than it is asked to (${asked}). End it; another one serves the new list.`,
        );
      }
      this.#served ??= { asked, done: this.#open(params) };
      await this.#served.done;
      return this.#status();
    },
    startMove: async ({ plan, journalPath, marksPath }) => {
      await callNative(this.#start().startMove(JSON.stringify(plan), journalPath, marksPath));
      this.#lastSent = '';
      this.#follow();
      return {};
    },
    stopMove: async () => {
      const stopped = await callNative(this.#start().stopMove());
      await this.#publish();
      return { stopped };
    },
    releaseMove: async () => {
      await callNative(this.#start().releaseMove());
      return {};
    },
    endMove: async () => {
      await callNative(this.#start().endMove());
      return {};
    },
    ...imageMethods,
    shutdown: async ({ force }) => {
      if (!force && this.#engine?.hasPeer()) {
        throw new VmStorageError('InvalidState', 'A virtual machine is connected to this worker; stop it first, or use force.');
      }
      // The answer goes out first; the host sees the socket close when all is closed cleanly.
      setImmediate(() => void this.end(0));
      return {};
    },
  };
}

function isOver(move: MoveStatus): boolean {
  return move.outcome !== null;
}
