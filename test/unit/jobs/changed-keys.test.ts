/** What a subscriber finds when it looks: the last state of everything that changed, once. */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { ChangedKeys } from '../../../src/jobs/changed-keys.js';

const never = new AbortController().signal;

test('a key that changed often meanwhile is found once, in the order in which keys first changed', async () => {
  const changed = new ChangedKeys();
  for (const key of ['a', 'b', 'a', 'c', 'b', 'a']) changed.note(key);
  expect([await changed.next(never), await changed.next(never), await changed.next(never)]).toEqual([
    { key: 'a' },
    { key: 'b' },
    { key: 'c' },
  ]);
});

test('who waits is woken by the next change, and by the end of its subscription', async () => {
  const changed = new ChangedKeys();
  const over = new AbortController();
  const first = changed.next(over.signal);
  changed.note('a');
  expect(await first).toEqual({ key: 'a' });
  const second = changed.next(over.signal);
  over.abort();
  expect(await second).toBeNull();
});

test('however much changes, no more keys are kept than the limit: beyond it everything is told anew', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 20 }), { minLength: 1, maxLength: 200 }), async (keys) => {
      const changed = new ChangedKeys(8);
      for (const key of keys) changed.note(String(key));
      const distinct = new Set(keys).size;
      const found = await changed.next(never);
      if (distinct > 8) expect(found).toBe('everything');
      else expect(found).toEqual({ key: String(keys[0]) });
      const over = new AbortController();
      over.abort();
      expect(await changed.next(over.signal)).toBeNull();
    }),
  );
});
