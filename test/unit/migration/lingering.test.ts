import { describe, expect, test } from 'vitest';
import { Lingering, LINGERS } from '../../../src/migration/lingering.js';

function pending<T>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (error: Error) => void } {
  let [resolve, reject]: [(value: T) => void, (error: Error) => void] = [() => undefined, () => undefined];
  const promise = new Promise<T>((yes, no) => ([resolve, reject] = [yes, no]));
  return { promise, resolve, reject };
}

/** Long for a machine that is busy; a test that passes does not wait for it. */
const LONG_MS = 30_000;

describe('an operation that may hang', () => {
  test('is answered with its result, or its failure, when it ends in time', async () => {
    const lingering = new Lingering();
    expect(await lingering.within('a', LONG_MS, async () => 7)).toBe(7);
    await expect(lingering.within('a', LONG_MS, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(await lingering.within('a', LONG_MS, async () => 8)).toBe(8);
  });

  test('is not waited for longer, and not begun again before it has ended', async () => {
    const lingering = new Lingering();
    let begun = 0;
    const ends = pending<string>();
    const body = (): Promise<string> => (begun++, ends.promise);
    expect(await lingering.within('a', 1, body)).toBe(LINGERS);
    expect(await lingering.within('a', 1, body)).toBe(LINGERS);
    const waiting = lingering.within('a', LONG_MS, body);
    expect(await lingering.within('b', LONG_MS, async () => 'another')).toBe('another');
    ends.resolve('at last');
    expect(await waiting).toBe('at last');
    expect(begun).toBe(1);
    expect(await lingering.within('a', LONG_MS, body)).toBe('at last');
    expect(begun).toBe(2);
  });

  test('may fail when nobody waits any more', async () => {
    const lingering = new Lingering();
    const ends = pending<string>();
    expect(await lingering.within('a', 1, () => ends.promise)).toBe(LINGERS);
    ends.reject(new Error('in the end it failed'));
    await new Promise(setImmediate);
    expect(await lingering.within('a', LONG_MS, async () => 'goes')).toBe('goes');
  });
});
