/** Who has the number of a user or group on this machine. */
import { native } from '../native/binding.js';
import { subordinateRanges } from '../os/privileges.js';
import type { Processes } from '../os/processes.js';

/** In words, or null when nobody does. */
export async function holderOf(id: number, processes: Processes): Promise<string | null> {
  const user = await native().userName(id);
  if (user !== null) return `the user ${user}`;
  const group = await native().groupName(id);
  if (group !== null) return `the group ${group}`;
  if (subordinateRanges().some(({ first, count }) => id >= first && id < first + count)) return 'a range of subordinate ids';
  return processes.hasUser(id) ? 'a process' : null;
}
