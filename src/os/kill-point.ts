/**
 * Named points at which a process kills itself with SIGKILL, for the tests that prove what survives it. The engine has the same
 * (native/engine/src/kill_point.rs) and tells what VMSTORAGE_KILL_AT may hold; host and workers may share one file of points.
 * Unarmed it does nothing.
 */
import { appendFileSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';

const armed = process.env['VMSTORAGE_KILL_AT'] ?? '';
let passes = 0;

/** Does not return if this is the armed point and its pass. */
export function killPoint(name: string): void {
  if (armed === '') return;
  if (armed.startsWith('@') ? takesLine(armed.slice(1), name) : isPass(name)) process.kill(process.pid, 'SIGKILL');
}

function isPass(name: string): boolean {
  const [wanted, pass = '1'] = armed.split('#');
  return wanted === name && ++passes === Number(pass);
}

/** True when the first line of the file was `name` and this process is the one that took it out. */
function takesLine(path: string, name: string): boolean {
  try {
    const text = readFileSync(path, 'utf8');
    const [first, ...rest] = text.split('\n');
    if (first !== name) return false;
    const taken = `${path}.${process.pid}`;
    renameSync(path, taken); // of two processes at the same point one renames, the other finds nothing to rename
    appendFileSync(`${path}.hits`, `${name}\n`);
    const left = rest.join('\n');
    if (left === '') rmSync(taken);
    else {
      writeFileSync(taken, left);
      renameSync(taken, path);
    }
    return true;
  } catch {
    return false; // nothing is armed now
  }
}
