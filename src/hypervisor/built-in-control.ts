/**
 * The small socket by which the host (or a test) asks a built-in guest: one connection per question, one frame each way.
 *
 * ```text
 * { ask: 'stats' }  ─▶  { answer: NativeGuestDisk[] }        { ask: 'window' }  ─▶  { answer: NativeGuestWindow }
 * { ask: 'stop' }   ─▶  { answer: NativeGuestReport }, after the guest has read everything back; then its process ends
 * ```
 */
import { connect } from 'node:net';
import { VmStorageError } from '../model/errors.js';
import type { NativeGuestDisk, NativeGuestReport, NativeGuestWindow } from '../native/binding.js';
import { encodeFrame, FrameDecoder } from '../protocol/frames.js';

export interface GuestAnswers {
  stats: readonly NativeGuestDisk[];
  window: NativeGuestWindow;
  stop: NativeGuestReport;
}

export type GuestQuestion = keyof GuestAnswers;

/** Asks; rejects with the socket's error when nobody listens, and with HypervisorFailure when no answer came. */
export function askGuest<Q extends GuestQuestion>(
  socketPath: string,
  ask: Q,
  limitMs: number,
  signal?: AbortSignal,
): Promise<GuestAnswers[Q]> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    const decoder = new FrameDecoder();
    const fail = (why: string): void =>
      end(() => reject(new VmStorageError('HypervisorFailure', `The built-in guest was asked "${ask}": ${why}.`)));
    const timer = setTimeout(() => fail(`no answer within ${limitMs} ms`), limitMs);
    const onAbort = (): void => fail('the question was given up');
    const end = (finish: () => void): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      socket.destroy();
      finish();
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    socket.on('error', (error) => end(() => reject(error)));
    socket.on('close', () => fail('it closed the connection'));
    socket.on('connect', () => socket.write(encodeFrame({ ask })));
    socket.on('data', (chunk: Buffer) => {
      try {
        for (const message of decoder.push(chunk)) {
          const { answer, error } = message as { answer?: GuestAnswers[Q]; error?: string };
          if (answer === undefined) fail(error ?? 'an answer without content');
          else end(() => resolve(answer));
        }
      } catch (error) {
        fail(error instanceof Error ? error.message : String(error));
      }
    });
  });
}
