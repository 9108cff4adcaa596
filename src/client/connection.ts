/** One framed connection to the host: messages out, messages in, one at a time and with the socket's own backpressure. */
import { connect, type Socket } from 'node:net';
import { VmStorageError } from '../model/errors.js';
import { GROUP_VARIABLES, readerSocketBeside } from '../model/roles.js';
import type { NativePeer } from '../native/binding.js';
import { FrameDecoder, sendFrame } from '../protocol/frames.js';
import { PROTOCOL_VERSION, type ClientMessage, type HostMessage, type WireError } from '../protocol/messages.js';
import { fromWireError } from '../protocol/wire-error.js';
import { trustedServer } from './server-trust.js';

/** The error the host reported. */
export const hostError = (error: WireError): VmStorageError => fromWireError(error, 'HostInternalError');

export function connectionLost(cause?: unknown): VmStorageError {
  return new VmStorageError(
    'HostConnectionLost',
    'The connection to the VM storage host was lost. Whether the operation finished is unknown; look with Get-VM and Get-VMStorageMove.',
    cause === undefined ? {} : { cause },
  );
}

const GROUPS = `'vmstorage' for administrators, 'vmstorage-readers' for those who look, unless ${GROUP_VARIABLES.administrator} and ${GROUP_VARIABLES.reader} of the host name others`;

function notReachable(address: string, cause: NodeJS.ErrnoException): VmStorageError {
  if (cause.code === 'EACCES' || cause.code === 'EPERM') {
    return new VmStorageError(
      'AccessDenied',
      `You do not have the required permission to use the VM storage host at '${address}'. Root and the user it belongs to have it, and ` +
        `members of its groups: ${GROUPS}. Who is added to one of them has it from the next login on.`,
      { target: address, cause },
    );
  }
  const why = cause.code === 'ENOENT' ? 'there is no such socket' : cause.code === 'ECONNREFUSED' ? 'nobody listens there' : cause.message;
  return new VmStorageError(
    'HostNotReachable',
    `Cannot connect to the VM storage host at '${address}': ${why}. Start it with 'vmstorage host start', ` +
      'or set VMSTORAGE_HOME to its folder or VMSTORAGE_HOST to its socket.',
    { target: address, cause },
  );
}

/** Who may not use the socket of the administrators may have one of his own beside it. */
async function connectedAsReader(address: string, refused: unknown): Promise<Socket> {
  const beside = refused instanceof VmStorageError && refused.code === 'AccessDenied' ? readerSocketBeside(address) : null;
  if (beside === null) throw refused;
  return connected(beside).catch(() => {
    throw refused;
  });
}

function connected(address: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(address);
    socket.once('error', (cause) => reject(notReachable(address, cause)));
    socket.once('connect', () => {
      socket.removeAllListeners('error');
      resolve(socket);
    });
  });
}

export interface Greeting {
  readonly host: string;
  readonly defs: string | undefined;
  readonly pid: number;
}

export class ClientConnection {
  readonly #socket: Socket;
  readonly #messages: AsyncGenerator<HostMessage>;
  #closedByUs = false;

  private constructor(
    socket: Socket,
    /** The host's process, as the kernel knows it. */
    readonly server: NativePeer,
  ) {
    this.#socket = socket;
    this.#messages = this.#receive();
  }

  /** Rejects with HostNotReachable or AccessDenied; the second also when it is a stranger who listens there. */
  static async open(address: string): Promise<ClientConnection> {
    const socket = await connected(address).catch((error: unknown) => connectedAsReader(address, error));
    // Errors show where the socket is read or written; without a listener they would end the process.
    socket.on('error', () => {});
    try {
      return new ClientConnection(socket, await trustedServer(socket, address));
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  async *#receive(): AsyncGenerator<HostMessage> {
    const decoder = new FrameDecoder();
    try {
      for await (const chunk of this.#socket) yield* decoder.push(chunk as Buffer) as Generator<HostMessage>;
    } catch (cause) {
      if (cause instanceof VmStorageError) throw cause;
      if (!this.#closedByUs) throw connectionLost(cause);
    }
  }

  get closedByUs(): boolean {
    return this.#closedByUs;
  }

  /** Next message, or undefined when the other side closed. */
  async receive(): Promise<HostMessage | undefined> {
    const next = await this.#messages.next();
    return next.done ? undefined : next.value;
  }

  send(message: ClientMessage): Promise<void> {
    return sendFrame(this.#socket, message);
  }

  /** Says hello and waits for the answer: nothing is asked of a host that speaks another protocol. */
  async greet(client: string, facts: { module?: string; defs?: string } = {}): Promise<Greeting> {
    await this.send({ k: 'hello', v: PROTOCOL_VERSION, pid: process.pid, client, ...facts });
    const answer = await this.receive();
    if (answer === undefined) throw connectionLost();
    if (answer.k === 'terminating') throw hostError(answer.e);
    if (answer.k !== 'hello') throw new VmStorageError('ProtocolError', `The VM storage host began with '${answer.k}' instead of 'hello'.`);
    if (answer.v !== PROTOCOL_VERSION) {
      throw new VmStorageError(
        'HostVersionMismatch',
        `The VM storage host (version ${answer.host}) speaks protocol version ${answer.v}, this client speaks ${PROTOCOL_VERSION}. ` +
          "Install both from the same release and restart the host with 'vmstorage host stop' and 'vmstorage host start'.",
      );
    }
    return { host: answer.host, defs: answer.defs, pid: answer.pid };
  }

  close(): void {
    this.#closedByUs = true;
    this.#socket.destroy();
  }
}
