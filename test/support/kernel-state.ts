/** What the kernel says of a process's threads. */
import { readdirSync, readFileSync } from 'node:fs';

/** Threads of `pid` whose name begins with `prefix` and that sleep where no signal reaches them: in a file system, as a rule. */
export function standingThreads(pid: number, prefix: string): string[] {
  return threads(pid).flatMap((task) => {
    try {
      const stat = readFileSync(`${task}/stat`, 'latin1');
      const [name, state] = [stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')')), stat[stat.lastIndexOf(')') + 2]];
      return name.startsWith(prefix) && state === 'D' ? [`${name}: ${stackOf(task)}`] : [];
    } catch {
      return []; // ended meanwhile
    }
  });
}

function threads(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`).map((task) => `/proc/${pid}/task/${task}`);
  } catch {
    return [];
  }
}

/** Innermost first; for root. */
function stackOf(task: string): string {
  const lines = readFileSync(`${task}/stack`, 'latin1').trim().split('\n');
  return lines.map((line) => line.replace(/^\[<0>\] /, '').replace(/\+.*/, '')).join(' < ');
}
