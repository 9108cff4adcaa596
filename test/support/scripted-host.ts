/**
 * A host that does what a test tells it: it speaks src/protocol over a Unix socket and answers each record with a script. It keeps
 * what it heard, so that a test can say what a client must have sent.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FrameDecoder, sendFrame } from '../../src/protocol/frames.js';
import {
  PROTOCOL_VERSION,
  type ClientMessage,
  type HostMessage,
  type WireError,
  type WireObject,
  type WireProgress,
  type WireValue,
  type Question,
} from '../../src/protocol/messages.js';

export interface Heard {
  readonly cmdlet: string;
  readonly parameterSet: string;
  readonly bound: { readonly [name: string]: WireValue };
  readonly cwd: string;
  readonly prefs: { readonly verbose: boolean; readonly debug: boolean; readonly progress: boolean };
}

/** One record as a script sees it. */
export class Call implements Heard {
  #asked = 0;
  readonly cmdlet: string;
  readonly parameterSet: string;
  readonly bound: { readonly [name: string]: WireValue };
  readonly cwd: string;
  readonly prefs: Heard['prefs'];

  constructor(
    private readonly peer: Peer,
    heard: Heard,
  ) {
    this.cmdlet = heard.cmdlet;
    this.parameterSet = heard.parameterSet;
    this.bound = heard.bound;
    this.cwd = heard.cwd;
    this.prefs = heard.prefs;
  }

  send(message: HostMessage): Promise<void> {
    return this.peer.send(message);
  }

  output(value: WireObject): Promise<void> {
    return this.send({ k: 'output', v: value });
  }

  error(error: Partial<WireError> & { message: string }): Promise<void> {
    return this.send({ k: 'error', e: { errorId: 'OperationFailed', category: 'NotSpecified', code: 'OperationFailed', ...error } });
  }

  progress(progress: Omit<WireProgress, 'k'>): Promise<void> {
    return this.send({ k: 'progress', ...progress });
  }

  text(k: 'verbose' | 'warning' | 'debug' | 'information', text: string): Promise<void> {
    return this.send({ k, text });
  }

  async ask(text: string, kind: Question = 'shouldProcess', last?: boolean): Promise<boolean> {
    const id = ++this.#asked;
    const reply = this.peer.reply(id);
    await this.send({ k: 'ask', id, kind, text, action: this.cmdlet, ...(last === undefined ? {} : { last }) });
    return reply;
  }

  /** Resolves when the client asks to stop. */
  get stopped(): Promise<void> {
    return this.peer.stopped;
  }

  /** Resolves when the connection is gone. */
  get closed(): Promise<void> {
    return this.peer.closed;
  }
}

/** One connection. */
class Peer {
  readonly stopped: Promise<void>;
  readonly closed: Promise<void>;
  readonly replies = new Map<number, (value: boolean) => void>();
  stop!: () => void;
  close!: () => void;

  constructor(readonly socket: Socket) {
    this.stopped = new Promise((resolve) => (this.stop = resolve));
    this.closed = new Promise((resolve) => (this.close = resolve));
  }

  send(message: HostMessage): Promise<void> {
    return sendFrame(this.socket, message).catch(() => {});
  }

  reply(id: number): Promise<boolean> {
    return new Promise((resolve) => this.replies.set(id, resolve));
  }
}

export type Script = (call: Call) => Promise<void> | void;

export interface ScriptedHostOptions {
  readonly version?: number;
  readonly defs?: string;
  readonly pid?: number;
  /** Items for `complete`; default none. */
  readonly complete?: (kind: string, word: string) => readonly { text: string; tip: string }[] | 'silence';
}

export class ScriptedHost implements AsyncDisposable {
  /** Every record heard, in order. */
  readonly heard: Heard[] = [];
  readonly messages: ClientMessage[] = [];
  connections = 0;
  readonly #peers = new Set<Peer>();
  readonly #waiting = new Set<() => void>();

  private constructor(
    private readonly server: Server,
    readonly folder: string,
    readonly address: string,
    public scripts: { [cmdlet: string]: Script },
    public options: ScriptedHostOptions,
  ) {}

  static async listen(scripts: { [cmdlet: string]: Script } = {}, options: ScriptedHostOptions = {}): Promise<ScriptedHost> {
    const folder = await mkdtemp(join(tmpdir(), 'vms-'));
    const address = join(folder, 'host.sock');
    const server = createServer();
    const host = new ScriptedHost(server, folder, address, { ...scripts }, options);
    server.on('connection', (socket) => void host.#serve(socket));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(address, resolve);
    });
    return host;
  }

  /** Environment that leads a client here. */
  get environment(): NodeJS.ProcessEnv {
    return { VMSTORAGE_HOST: this.address, VMSTORAGE_NOSTART: '1' };
  }

  forget(): void {
    this.heard.length = 0;
    this.messages.length = 0;
    this.connections = 0;
  }

  get open(): number {
    return this.#peers.size;
  }

  /** Resolves when `condition` holds; asked again after every message and every close. */
  until(condition: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (!condition()) return;
        this.#waiting.delete(look);
        resolve();
      };
      this.#waiting.add(look);
      look();
    });
  }

  #changed(): void {
    for (const look of [...this.#waiting]) look();
  }

  /** Cuts every connection, as a killed host does. */
  cut(): void {
    for (const peer of this.#peers) peer.socket.destroy();
  }

  async #serve(socket: Socket): Promise<void> {
    const peer = new Peer(socket);
    this.#peers.add(peer);
    this.connections += 1;
    const decoder = new FrameDecoder();
    let begun: Extract<ClientMessage, { k: 'begin' }> | undefined;
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#peers.delete(peer);
      peer.close();
      this.#changed();
    });
    socket.on('data', (chunk) => {
      for (const message of decoder.push(chunk) as Generator<ClientMessage>) {
        this.messages.push(message);
        switch (message.k) {
          case 'hello':
            void peer.send({
              k: 'hello',
              v: this.options.version ?? PROTOCOL_VERSION,
              host: '9.9.9',
              pid: this.options.pid ?? process.pid,
              ...(this.options.defs === undefined ? {} : { defs: this.options.defs }),
            });
            break;
          case 'begin':
            begun = message;
            break;
          case 'process':
            void this.#run(
              peer,
              { cmdlet: begun!.cmdlet, parameterSet: message.parameterSet, bound: message.bound, cwd: begun!.cwd, prefs: begun!.prefs },
              message.seq,
            );
            break;
          case 'end':
            void peer.send({ k: 'completed' });
            break;
          case 'reply':
            peer.replies.get(message.id)?.(message.value);
            break;
          case 'stop':
            peer.stop();
            break;
          case 'complete': {
            const items = this.options.complete?.(message.kind, message.word) ?? [];
            if (items !== 'silence') void peer.send({ k: 'items', items: [...items] });
          }
        }
        this.#changed();
      }
    });
  }

  async #run(peer: Peer, heard: Heard, seq: number): Promise<void> {
    this.heard.push(heard);
    this.#changed();
    await this.scripts[heard.cmdlet]?.(new Call(peer, heard));
    await peer.send({ k: 'processed', seq });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
    await rm(this.folder, { recursive: true, force: true });
  }
}
