/** Framing shared by host, client and worker sockets: 4-byte little-endian length, then UTF-8 JSON. */
import type { Socket } from 'node:net';
import { VmStorageError } from '../model/errors.js';
import { MAX_FRAME_BYTES } from './messages.js';

/** Splits a byte stream into messages. One instance per connection. */
export class FrameDecoder {
  #chunks: Buffer[] = [];
  #buffered = 0;

  constructor(private readonly maxFrameBytes: number = MAX_FRAME_BYTES) {}

  /** Messages completed by `chunk`, in order. Throws ProtocolError on a bad length or bad JSON: close the connection then. */
  *push(chunk: Buffer): Generator<unknown> {
    this.#chunks.push(chunk);
    this.#buffered += chunk.length;
    for (;;) {
      if (this.#buffered < 4) return;
      const head = this.#peek(4);
      const length = head.readUInt32LE(0);
      if (length === 0 || length > this.maxFrameBytes) {
        throw new VmStorageError('ProtocolError', `A frame of ${length} bytes was announced; the limit is ${this.maxFrameBytes}.`);
      }
      if (this.#buffered < 4 + length) return;
      const frame = this.#peek(4 + length);
      this.#drop(4 + length);
      let message: unknown;
      try {
        message = JSON.parse(frame.toString('utf8', 4, 4 + length));
      } catch (cause) {
        throw new VmStorageError('ProtocolError', 'A frame does not hold JSON.', { cause });
      }
      yield message;
    }
  }

  #peek(count: number): Buffer {
    const first = this.#chunks[0];
    if (first && first.length >= count) return first.subarray(0, count);
    const all = Buffer.concat(this.#chunks);
    this.#chunks = [all];
    return all.subarray(0, count);
  }

  #drop(count: number): void {
    const first = this.#chunks[0]!;
    if (first.length === count) this.#chunks.shift();
    else this.#chunks[0] = first.subarray(count);
    this.#buffered -= count;
  }
}

export function encodeFrame(message: unknown): Buffer {
  const body = Buffer.from(JSON.stringify(message), 'utf8');
  const frame = Buffer.allocUnsafe(4 + body.length);
  frame.writeUInt32LE(body.length, 0);
  body.copy(frame, 4);
  return frame;
}

/** Writes one message; resolves when the socket wants more (backpressure), rejects when it is gone. */
export function sendFrame(socket: Socket, message: unknown): Promise<void> {
  return new Promise((resolve, reject) => {
    if (socket.destroyed || !socket.writable) {
      reject(new VmStorageError('HostConnectionLost', 'The connection is closed.'));
      return;
    }
    if (socket.write(encodeFrame(message))) {
      resolve();
      return;
    }
    const settle = (): void => {
      socket.off('drain', settle);
      socket.off('close', settle);
      if (socket.destroyed) reject(new VmStorageError('HostConnectionLost', 'The connection was closed while writing.'));
      else resolve();
    };
    socket.on('drain', settle);
    socket.on('close', settle);
  });
}
