/**
 * An NBD client that asks without reading the answers: what no library does, and what a server that ends has to cope with.
 * Fixed newstyle, simple replies; numbers as in the NBD protocol's document.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

const OPTION_MAGIC = 0x49484156454f5054n;
const OPTION_GO = 7;
const REPLY_ACK = 1;
const REQUEST_MAGIC = 0x25609513;
const SIMPLE_REPLY_MAGIC = 0x67446698;
const LOOK_EACH_MS = 5;
export const READ = 0;
export const WRITE = 1;

export interface Answer {
  readonly cookie: number;
  readonly error: number;
  readonly data: Buffer;
}

export class NbdClient {
  readonly #socket: Socket;
  /** Length of the data that comes with the answer to a cookie. */
  readonly #awaited = new Map<number, number>();
  #taken = 0;

  private constructor(path: string) {
    this.#socket = connect(path);
    // A server that ends may reset the connection: what arrived before is what counts.
    this.#socket.on('error', () => undefined);
  }

  static async connect(path: string): Promise<NbdClient> {
    const client = new NbdClient(path);
    await client.#take(18);
    const hello = Buffer.alloc(4 + 16 + 6);
    hello.writeUInt32BE(3, 0);
    hello.writeBigUInt64BE(OPTION_MAGIC, 4);
    hello.writeUInt32BE(OPTION_GO, 12);
    hello.writeUInt32BE(6, 16);
    client.#socket.write(hello);
    for (;;) {
      const reply = await client.#take(20);
      const length = reply.readUInt32BE(16);
      if (length > 0) await client.#take(length);
      const kind = reply.readUInt32BE(12);
      if (kind === REPLY_ACK) return client;
      if (kind > 0x7fffffff) throw new Error(`the server refused the export: ${kind.toString(16)}`);
    }
  }

  async #take(bytes: number): Promise<Buffer> {
    for (;;) {
      const chunk = this.#socket.read(bytes) as Buffer | null;
      if (chunk?.length === bytes) {
        this.#taken += bytes;
        return chunk;
      }
      if (chunk !== null || this.#socket.readableEnded) throw new Error('the server closed the connection');
      await once(this.#socket, 'readable');
    }
  }

  /** Sends requests in one piece; cookies are their places from `first` on. */
  ask(command: typeof READ | typeof WRITE, ranges: readonly { offset: number; length: number; data?: Buffer }[], first = 0): void {
    const parts = ranges.flatMap(({ offset, length, data }, place) => {
      const header = Buffer.alloc(28);
      header.writeUInt32BE(REQUEST_MAGIC, 0);
      header.writeUInt16BE(command, 6);
      header.writeBigUInt64BE(BigInt(first + place), 8);
      header.writeBigUInt64BE(BigInt(offset), 16);
      header.writeUInt32BE(length, 24);
      this.#awaited.set(first + place, command === READ ? length : 0);
      return data ? [header, data] : [header];
    });
    this.#socket.write(Buffer.concat(parts));
  }

  /** Resolves when an answer has begun to arrive, without taking it. */
  async somethingArrived(): Promise<void> {
    const before = this.#taken;
    while (this.#socket.bytesRead === before) {
      this.#socket.read(0);
      await new Promise((resolve) => setTimeout(resolve, LOOK_EACH_MS));
      if (this.#socket.closed) throw new Error('the server closed the connection');
    }
  }

  /** Everything that still arrives until the server closes; a torn answer is an error. */
  async answersUntilClosed(): Promise<Answer[]> {
    const chunks: Buffer[] = [];
    const closed = new Promise((resolve) => this.#socket.once('close', resolve));
    this.#socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    await closed;
    const all = Buffer.concat(chunks);
    const answers: Answer[] = [];
    for (let at = 0; at < all.length;) {
      if (all.length - at < 16) throw new Error(`${all.length - at} bytes of an answer, then nothing`);
      if (all.readUInt32BE(at) !== SIMPLE_REPLY_MAGIC) throw new Error('not an answer');
      const error = all.readUInt32BE(at + 4);
      const cookie = Number(all.readBigUInt64BE(at + 8));
      const length = error === 0 ? this.#awaited.get(cookie)! : 0;
      const data = all.subarray(at + 16, at + 16 + length);
      if (data.length < length) throw new Error(`${data.length} of ${length} bytes of answer ${cookie}, then nothing`);
      answers.push({ cookie, error, data });
      at += 16 + length;
    }
    return answers;
  }

  close(): void {
    this.#socket.destroy();
  }
}
