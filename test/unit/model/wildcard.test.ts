/** PowerShell's name patterns, and literal names that look like one. */
import { expect, test } from 'vitest';
import { hasWildcard, named, wildcard } from '../../../src/model/wildcard.js';

test("PowerShell's wildcards", () => {
  expect(['web*', 'WEB0?', 'web0[1-3]', '*', 'web01'].every((pattern) => wildcard(pattern).test('web01'))).toBe(true);
  expect(['web', 'web0[2-3]', 'w.b01', 'web[', 'web01+', 'web`*'].some((pattern) => wildcard(pattern).test('web01'))).toBe(false);
});

test('a literal name comes before the pattern it looks like, and its escaped form names it too', () => {
  const all = ['vm[1]', 'vm1', 'we*b', 'web'];
  const find = (given: string): string[] => named(given, all, (name) => name);
  expect(find('vm[1]')).toEqual(['vm[1]']);
  expect(find('vm`[1`]')).toEqual(['vm[1]']);
  expect(find('we*b')).toEqual(['we*b']);
  expect(find('we*')).toEqual(['we*b', 'web']);
  expect(find('vm[2]')).toEqual([]);
  expect([hasWildcard('vm[1]'), hasWildcard('vm`[1`]')]).toEqual([true, false]);
});
