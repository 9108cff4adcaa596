/**
 * Names of virtual machines as people give them: the literal name first, then PowerShell's pattern. A machine may be called `vm[1]`,
 * and the one who names it so means it, not `vm1`.
 */

/** Those that are called so; when there are none, those that match it as a pattern. */
export function named<T>(given: string, all: readonly T[], nameOf: (one: T) => string): T[] {
  const exact = all.filter((one) => nameOf(one).toLowerCase() === given.toLowerCase());
  if (exact.length > 0) return exact;
  const pattern = wildcard(given);
  return all.filter((one) => pattern.test(nameOf(one)));
}

/** `*`, `?` and `[` make a pattern, unless a backtick stands before them. */
export function hasWildcard(text: string): boolean {
  return /[*?[]/.test(text.replace(/`./g, ''));
}

/** PowerShell's wildcard pattern, without regard to case: `*`, `?`, `[a-c]`, backtick escapes. */
export function wildcard(pattern: string): RegExp {
  let source = '';
  for (let at = 0; at < pattern.length; at++) {
    const character = pattern[at]!;
    if (character === '`' && at + 1 < pattern.length) source += literal(pattern[++at]!);
    else if (character === '*') source += '[\\s\\S]*';
    else if (character === '?') source += '[\\s\\S]';
    else if (character === '[') {
      const end = pattern.indexOf(']', at + 2);
      if (end < 0) {
        source += '\\[';
        continue;
      }
      source += `[${pattern.slice(at + 1, end).replace(/[\\\]^[]/g, '\\$&')}]`;
      at = end;
    } else source += literal(character);
  }
  try {
    return new RegExp(`^${source}$`, 'i');
  } catch {
    return new RegExp(`^${literal(pattern)}$`, 'i'); // a range the wrong way round: it stands for itself
  }
}

const literal = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
