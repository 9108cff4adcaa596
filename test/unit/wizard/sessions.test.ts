/** Secrets work once and within a minute; what they open is forgotten when nobody uses it. */
import { beforeEach, expect, test } from 'vitest';
import { IDLE_LIMIT_MS, SECRET_LIMIT_MS, Sessions } from '../../../src/wizard/gateway/sessions.js';

let nowMs: number;
let sessions: Sessions;
beforeEach(() => {
  nowMs = 1_000_000;
  sessions = new Sessions(() => nowMs);
});
const header = (bearer: string): string => `Bearer ${bearer}`;

test('a secret is exchanged for a bearer, once', () => {
  const secret = sessions.newSecret();
  const bearer = sessions.exchange(secret);
  expect(bearer).not.toBe(secret);
  expect(sessions.isAllowed(header(bearer))).toBe(true);
  expect(() => sessions.exchange(secret)).toThrow('it was used already');
  expect(sessions.isAllowed(header(bearer))).toBe(true);
});

test('one that comes late, is made up, or is empty opens nothing', () => {
  const secret = sessions.newSecret();
  nowMs += SECRET_LIMIT_MS + 1;
  expect(() => sessions.exchange(secret)).toThrow('within a minute');
  expect(() => sessions.exchange(secret)).toThrow('used already');
  expect(() => sessions.exchange('x')).toThrow('not one of this wizard');
  for (const wrong of [undefined, '', 'Bearer ', 'Bearer x', `Basic ${secret}`, header(secret)])
    expect(sessions.isAllowed(wrong)).toBe(false);
});

test('a page without use for half an hour is forgotten; an open stream is a use', () => {
  const bearer = sessions.exchange(sessions.newSecret());
  nowMs += IDLE_LIMIT_MS - 1;
  expect(sessions.isAllowed(header(bearer))).toBe(true);
  const end = sessions.openStream(header(bearer), 1)!;
  nowMs += 10 * IDLE_LIMIT_MS;
  expect(sessions.isAllowed(header(bearer))).toBe(true);
  expect(sessions.openStream(header(bearer), 1)).toBeNull();
  end();
  nowMs += IDLE_LIMIT_MS + 1;
  expect(sessions.isAllowed(header(bearer))).toBe(false);
});

test('as many pages as a person opens: one that is closed makes room, and of open ones there are sixteen', () => {
  const bearers = Array.from({ length: 16 }, () => {
    nowMs++;
    return sessions.exchange(sessions.newSecret());
  });
  const ends = bearers.slice(1).map((bearer) => sessions.openStream(header(bearer), 1)!);
  const late = sessions.exchange(sessions.newSecret());
  expect(bearers.map((bearer) => sessions.isAllowed(header(bearer)))).toEqual(bearers.map((_, at) => at > 0));
  ends.push(sessions.openStream(header(late), 1)!);
  expect(() => sessions.exchange(sessions.newSecret())).toThrow('16 pages are open already');
  for (const end of ends) end();
  expect(() => sessions.exchange(sessions.newSecret())).not.toThrow();
});
