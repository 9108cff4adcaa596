/** The one table of what the operating system refuses, asked with errors as Node makes them. */
import { describe, expect, test } from 'vitest';
import { errnoOf, errorCodeOf, hasCode, reasonOf } from '../../../src/os/errno.js';

/** As Node's `fs` throws it; libuv has no name for `number` when `name` is left out. */
function refused(number: number, name?: string, words?: string): Error {
  const code = name ?? `Unknown system error -${number}`;
  const text = `${code}: ${words ?? code}, write '/srv/a.vmcx'`;
  return Object.assign(new Error(text), { errno: -number, code, syscall: 'write', path: '/srv/a.vmcx' });
}

describe('what the operating system refuses', () => {
  test.each([
    [28, 'ENOSPC', 'NoSpace'],
    [13, 'EACCES', 'AccessDenied'],
    [1, 'EPERM', 'AccessDenied'],
    [30, 'EROFS', 'AccessDenied'],
    [17, 'EEXIST', 'AlreadyExists'],
    [5, 'EIO', 'StorageFailure'],
    [2, 'ENOENT', 'StorageFailure'],
  ] as const)('by the name Node gives it: %i is %s, and a %s', (number, name, code) => {
    const error = refused(number, name, 'the words of the system');
    expect(errorCodeOf(error)).toBe(code);
    expect(hasCode(error, 'EOTHER', name)).toBe(true);
    expect(reasonOf(error)).toBe('the words of the system');
  });

  test.each([
    [122, 'EDQUOT', 'NoSpace', 'disk quota exceeded'],
    [116, 'ESTALE', 'StorageFailure', 'stale file handle'],
    [117, 'EUCLEAN', 'StorageFailure', 'the file system needs to be repaired'],
    [133, '133', 'StorageFailure', 'Unknown system error -133'],
  ] as const)('also where Node has no name for it: %i is %s', (number, name, code, words) => {
    const error = refused(number);
    expect(errnoOf(error)).toBe(name);
    expect(hasCode(error, name)).toBe(true);
    expect(errorCodeOf(error)).toBe(code);
    expect(reasonOf(error)).toBe(words);
  });

  test("and what is Node's own, or a bug, is not taken for it", () => {
    for (const error of [Object.assign(new Error('no'), { code: 'ERR_INVALID_ARG_VALUE' }), new TypeError('no'), 'EIO', null]) {
      expect(errnoOf(error)).toBeNull();
      expect(errorCodeOf(error)).toBe('HostInternalError');
    }
  });
});
