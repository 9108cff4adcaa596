/** What the kernel lets this process do about users, as /proc says it. */
import { readFileSync } from 'node:fs';

/** Bits of CapEff (capability.h). */
const CAP_SETGID = 6n;
const CAP_SETUID = 7n;

export interface IdRange {
  readonly first: number;
  readonly count: number;
}

/** Why this process cannot start another one as a user of `range`, or null. */
export function whyNoOtherUser({ first, count }: IdRange, proc = '/proc/self'): string | null {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(readFileSync(`${proc}/status`, 'latin1'))?.[1] ?? '0'}`);
  if (![CAP_SETGID, CAP_SETUID].every((bit) => (effective >> bit) & 1n))
    return 'it does not have the rights of root (CAP_SETUID and CAP_SETGID)';
  for (const map of ['uid_map', 'gid_map']) {
    if (!covers(readFileSync(`${proc}/${map}`, 'latin1'), { first, count }))
      return `its user namespace does not have the numbers ${first} to ${first + count - 1} (${map})`;
  }
  return null;
}

/** Lines of `inside outside count` (user_namespaces(7)). */
function covers(map: string, range: IdRange): boolean {
  return map
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number))
    .some(([first = 0, , count = 0]) => first <= range.first && range.first + range.count <= first + count);
}

/** Ranges given to users for their containers: lines of `name:first:count` (subuid(5)). */
export function subordinateRanges(files: readonly string[] = ['/etc/subuid', '/etc/subgid']): readonly IdRange[] {
  return files.flatMap((file) => {
    let text: string;
    try {
      text = readFileSync(file, 'latin1');
    } catch {
      return []; // none are given
    }
    return [...text.matchAll(/^[^:#\n]+:(\d+):(\d+)$/gm)].map(([, first, count]) => ({ first: Number(first), count: Number(count) }));
  });
}
