/**
 * One connection of a client, which is one invocation of a cmdlet (or one completion).
 *
 * ```text
 *  new ──hello──▶ greeted, if it has a role ──begin──▶ begun ──process... (one at a time, in order)──▶ end ──▶ closed by the client
 *                    └──complete──▶ items ──▶ closed by the client
 *  anything else, anywhere: a ProtocolError is told and the connection closed. `stop` and `reply` are taken at any time after begin.
 * ```
 * Closing the connection ends queries (context.signal), never a move. `stop` asks for cancellation (context.stopRequested).
 * The end of the host ends queries as well. A record that fails of it says why, as a last word; one that is given up is never called processed.
 */
import type { Socket } from 'node:net';
import { VmStorageError } from '../model/errors.js';
import type { Role } from '../model/roles.js';
import { socketPeer } from '../native/socket-peer.js';
import type { Clock } from '../os/clock.js';
import type { Log } from '../os/log.js';
import { FrameDecoder, sendFrame } from '../protocol/frames.js';
import { PROTOCOL_VERSION, type ClientMessage, type HostMessage, type Question } from '../protocol/messages.js';
import { toWireError } from '../protocol/wire-error.js';
import { toClientMessage } from './messages-check.js';
import { accessOf } from './methods/access.js';
import type { Peer } from './peer.js';
import type { Roles } from './roles.js';
import type { CmdletContext, CmdletMethods } from './services.js';

/** From a client to us: 10 000 machines piped by object in one record are 1 MB. */
const CLIENT_FRAME_MAX_BYTES = 8 * 1024 * 1024;
/** A client works in lock-step; a few records ahead are tolerated. */
const QUEUE_MAX = 16;
/** A connection that says nothing is not a client. */
const HELLO_LIMIT_MS = 10_000;

/** Of what was asked for, in an audit line. */
const AUDIT_TEXT_MAX = 1_000;

export interface ConnectionOptions {
  readonly methods: CmdletMethods;
  /** Who is at the other end, for the audit. */
  readonly peerOf: (socket: Socket) => Promise<Peer | null>;
  readonly roles: Roles;
  readonly complete: (kind: string, word: string) => Promise<{ text: string; tip: string }[]>;
  readonly version: string;
  /** Hash of the cmdlet definitions: a client made from others warns. */
  readonly definitions: string;
  readonly clock: Clock;
  readonly log: Log;
}

interface Invocation {
  readonly cmdlet: string;
  readonly cwd: string;
  readonly prefs: { verbose: boolean; debug: boolean; progress: boolean };
}

export class Connection {
  readonly #decoder = new FrameDecoder(CLIENT_FRAME_MAX_BYTES);
  readonly #closed = new AbortController();
  /** What handlers see of it: nobody waits for an answer any more. */
  readonly #givenUp = new AbortController();
  readonly #stop = new AbortController();
  readonly #asked = new Map<number, (value: boolean) => void>();
  readonly #queue: ClientMessage[] = [];
  #greeted = false;
  #invocation: Invocation | null = null;
  #peer: Promise<Peer | null> | null = null;
  #role: Role | null = null;
  /** What the client says of itself. */
  #client = '';
  #pid: number | null = null;
  #ended = false;
  #working = false;
  #hostEnds = false;
  #terminated = false;
  #nextAsk = 1;

  constructor(
    private readonly socket: Socket,
    private readonly options: ConnectionOptions,
  ) {
    const timer = setTimeout(() => !this.#greeted && this.#refuse('no hello within 10 s'), HELLO_LIMIT_MS);
    socket.on('data', (chunk: Buffer) => this.#data(chunk));
    socket.on('error', (error) => this.options.log.debug({ reason: error.message }, 'a connection failed'));
    socket.on('close', () => {
      clearTimeout(timer);
      this.#closed.abort();
      this.#giveUp();
    });
  }

  /** The host ends: closes as soon as the handler at work, if there is one, has given up or said why it failed. */
  end(): void {
    this.#hostEnds = true;
    this.#giveUp();
    if (!this.#working) this.#closeAfterLastWord();
  }

  #giveUp(): void {
    this.#givenUp.abort();
    for (const answer of this.#asked.values()) answer(false);
    this.#asked.clear();
  }

  #closeAfterLastWord(): void {
    if (!this.#terminated) this.socket.destroy();
  }

  #data(chunk: Buffer): void {
    try {
      for (const value of this.#decoder.push(chunk)) {
        const message = toClientMessage(value);
        if (!message || !this.#take(message)) return this.#refuse(`an unexpected or malformed message (${describe(value)})`);
      }
    } catch (error) {
      this.#refuse(error instanceof Error ? error.message : String(error));
    }
  }

  /** False when the message is not allowed now. */
  #take(message: ClientMessage): boolean {
    if (!this.#greeted) return message.k === 'hello' && this.#hello(message);
    switch (message.k) {
      case 'hello':
        return false;
      case 'stop':
        this.#stop.abort();
        for (const answer of this.#asked.values()) answer(false);
        this.#asked.clear();
        return true;
      case 'reply': {
        const answer = this.#asked.get(message.id);
        this.#asked.delete(message.id);
        answer?.(message.value);
        return answer !== undefined || this.#stop.signal.aborted; // an answer may cross a stop
      }
      case 'begin':
        if (this.#invocation) return false;
        this.#invocation = { cmdlet: message.cmdlet, cwd: message.cwd, prefs: message.prefs };
        return true;
      case 'process':
      case 'end':
        if (!this.#invocation || this.#ended) return false;
        this.#ended = message.k === 'end';
        return this.#enqueue(message);
      case 'complete':
        return !this.#invocation && this.#enqueue(message);
    }
  }

  #hello(message: Extract<ClientMessage, { k: 'hello' }>): boolean {
    this.#greeted = true;
    this.#client = String(message.client ?? '').slice(0, 40);
    this.#pid = Number.isInteger(message.pid) ? message.pid : null;
    this.#role = this.#roleNow();
    if (this.#role === null) {
      void this.#refuseStranger();
      return true;
    }
    void this.#send({ k: 'hello', v: PROTOCOL_VERSION, host: this.options.version, defs: this.options.definitions, pid: process.pid });
    if (message.v === PROTOCOL_VERSION) return true;
    this.#terminate(
      new VmStorageError(
        'HostVersionMismatch',
        `The client speaks protocol version ${message.v}, this host (${this.options.version}) version ${PROTOCOL_VERSION}. Install the module and the host of the same release.`,
      ),
    );
    return true;
  }

  /** Null also where the kernel does not say who it is. */
  #roleNow(): Role | null {
    try {
      const peer = socketPeer(this.socket);
      return peer && this.options.roles.of(peer);
    } catch (error) {
      this.options.log.error({ reason: String(error) }, 'it cannot be said who asks');
      return null;
    }
  }

  async #refuseStranger(): Promise<void> {
    const peer = await this.#asker();
    this.options.log.warn({ audit: true, ...peer, client: this.#client }, 'a connection was refused: no role');
    this.#terminate(this.options.roles.refusal('the VM storage host', 'reader', peer));
  }

  #enqueue(message: ClientMessage): boolean {
    if (this.#queue.length >= QUEUE_MAX) return false;
    this.#queue.push(message);
    if (!this.#working) void this.#work();
    return true;
  }

  async #work(): Promise<void> {
    this.#working = true;
    for (let message = this.#queue.shift(); message && !this.#givenUp.signal.aborted; message = this.#queue.shift()) {
      if (message.k === 'process') await this.#process(message);
      else if (message.k === 'end') await this.#send({ k: 'completed' });
      else if (message.k === 'complete')
        await this.#send({ k: 'items', items: await this.options.complete(message.kind, message.word).catch(() => []) });
    }
    this.#working = false;
    if (this.#hostEnds) this.#closeAfterLastWord();
  }

  async #process(message: Extract<ClientMessage, { k: 'process' }>): Promise<void> {
    const invocation = this.#invocation!;
    const handler = Object.hasOwn(this.options.methods, invocation.cmdlet) ? this.options.methods[invocation.cmdlet] : undefined;
    if (!handler)
      return this.#terminate(
        new VmStorageError('NotImplemented', `This host does not know the cmdlet '${invocation.cmdlet}'.`, { target: invocation.cmdlet }),
      );
    if (!this.#stop.signal.aborted) {
      try {
        if (accessOf(invocation.cmdlet) === 'acts') {
          await this.#refuseReader(invocation.cmdlet, invocation.cmdlet);
          await this.#audit(invocation.cmdlet, `${invocation.cmdlet} ${JSON.stringify(message.bound)}`);
        }
        await handler(this.#context(invocation, message));
        if (this.#hostEnds) return; // done, or given up: from here they look the same
      } catch (error) {
        if (this.#hostEnds) return error instanceof VmStorageError ? this.#terminate(error) : undefined;
        if (!(error instanceof VmStorageError)) {
          this.options.log.error(
            { cmdlet: invocation.cmdlet, error: error instanceof Error ? error.stack : String(error) },
            'a cmdlet failed unexpectedly',
          );
          return this.#terminate(
            new VmStorageError(
              'HostInternalError',
              `The host failed in '${invocation.cmdlet}': ${error instanceof Error ? error.message : String(error)}. Its log has more.`,
            ),
          );
        }
        this.#failed(invocation.cmdlet, error);
        await this.#send({ k: 'error', e: toWireError(error) });
      }
    }
    await this.#send({ k: 'processed', seq: message.seq });
  }

  #context({ cmdlet, cwd, prefs }: Invocation, { parameterSet, bound }: Extract<ClientMessage, { k: 'process' }>): CmdletContext {
    return {
      cmdlet,
      cwd,
      caller: async () => (await this.#asker())?.uid ?? null,
      parameterSet,
      bound,
      signal: this.#givenUp.signal,
      stopRequested: this.#stop.signal,
      output: (value) => this.#send({ k: 'output', v: value }),
      error: (error) => {
        this.#failed(cmdlet, error);
        return this.#send({ k: 'error', e: toWireError(error) });
      },
      verbose: (text) => (prefs.verbose ? this.#send({ k: 'verbose', text }) : Promise.resolve()),
      warning: (text) => this.#send({ k: 'warning', text }),
      information: (text) => this.#send({ k: 'information', text }),
      progress: (record) => (prefs.progress ? this.#send({ k: 'progress', ...record }) : Promise.resolve()),
      shouldProcess: async (text, caption = 'Confirm') => {
        const yes = await this.#ask('shouldProcess', text, caption);
        if (!yes) return false;
        await this.#refuseReader(cmdlet, text);
        await this.#audit(cmdlet, text);
        return true;
      },
      shouldContinue: async (text, caption = 'Confirm') => {
        const yes = await this.#ask('shouldContinue', text, caption);
        if (yes) await this.#refuseReader(cmdlet, text);
        return yes;
      },
    };
  }

  /** Throws (AccessDenied) when whoever asks may only look. */
  async #refuseReader(cmdlet: string, what: string): Promise<void> {
    if (this.#role === 'administrator') return;
    const peer = await this.#asker();
    this.options.log.warn(
      { audit: true, cmdlet, what: what.slice(0, AUDIT_TEXT_MAX), ...peer, client: this.#client },
      'a change was refused: its asker may only look',
    );
    throw this.options.roles.refusal(cmdlet, 'administrator', peer);
  }

  #asker(): Promise<Peer | null> {
    this.#peer ??= this.options.peerOf(this.socket);
    return this.#peer;
  }

  /** One line for each object that a cmdlet is about to change, before it does: who, and what. */
  async #audit(cmdlet: string, what: string): Promise<void> {
    const peer = (await this.#asker()) ?? { uid: null, user: null, pid: this.#pid, program: null };
    this.options.log.info(
      { audit: true, cmdlet, what: what.slice(0, AUDIT_TEXT_MAX), ...peer, client: this.#client },
      'a change was asked for',
    );
  }

  #failed(cmdlet: string, { code, message }: VmStorageError): void {
    this.options.log.warn({ cmdlet, code, reason: message }, 'a cmdlet was refused or failed');
  }

  async #ask(kind: Question, text: string, action: string): Promise<boolean> {
    if (this.#closed.signal.aborted || this.#stop.signal.aborted) return false;
    const id = this.#nextAsk++;
    const answered = new Promise<boolean>((resolve) => this.#asked.set(id, resolve));
    await this.#send({ k: 'ask', id, kind, text, action });
    if (this.#closed.signal.aborted) return false;
    return answered;
  }

  /** Waits until the client takes more; a client that is gone is told nothing and that is no error. */
  async #send(message: HostMessage): Promise<void> {
    if (this.#closed.signal.aborted) return;
    await sendFrame(this.socket, message).catch(() => {});
  }

  #refuse(what: string): void {
    this.options.log.warn({ reason: what }, 'a connection was closed: protocol error');
    this.#terminate(new VmStorageError('ProtocolError', `The host closed the connection: ${what}.`));
  }

  #terminate(error: VmStorageError): void {
    this.#terminated = true;
    this.#queue.length = 0;
    void this.#send({ k: 'terminating', e: toWireError(error) }).then(() => this.socket.end());
    this.socket.removeAllListeners('data');
    this.socket.resume(); // read on and forget, so that the reason reaches the client before the reset would
    setTimeout(() => this.socket.destroy(), 1_000).unref();
  }
}

/** Enough to find the sender's mistake; never its values. */
function describe(value: unknown): string {
  const kind = typeof value === 'object' && value !== null && 'k' in value ? value.k : typeof value;
  return String(kind).slice(0, 40);
}
