/**
 * Named points at which a process kills itself with SIGKILL, for the tests that prove what survives it, or stops itself, for those that
 * change something at that very moment. The engine has the same
 * (native/engine/src/kill_point.rs) and tells what VMSTORAGE_KILL_AT may hold; host and workers may share one file of points.
 * Unarmed it does nothing.
 */
import { appendFileSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';

const armed = process.env['VMSTORAGE_KILL_AT'] ?? '';
let passes = 0;

const STOP = 'stop:';

/** Does not return if this is the armed point and its pass, or returns when the process is let go on. */
export function killPoint(name: string): void {
  if (armed === '') return;
  const signal = armed.startsWith('@') ? takesLine(armed.slice(1), name) : isPass(name);
  if (signal !== null) process.kill(process.pid, signal);
}

type Signal = 'SIGKILL' | 'SIGSTOP';

const signalled = (text: string): readonly [name: string, signal: Signal] =>
  text.startsWith(STOP) ? [text.slice(STOP.length), 'SIGSTOP'] : [text, 'SIGKILL'];

function isPass(name: string): Signal | null {
  const [point = '', pass = '1'] = armed.split('#');
  const [wanted, signal] = signalled(point);
  return wanted === name && ++passes === Number(pass) ? signal : null;
}

/** The signal, when the first line of the file was `name` and this process is the one that took it out. */
function takesLine(path: string, name: string): Signal | null {
  try {
    const text = readFileSync(path, 'utf8');
    const [first = '', ...rest] = text.split('\n');
    const [wanted, signal] = signalled(first);
    if (wanted !== name) return null;
    const taken = `${path}.${process.pid}`;
    renameSync(path, taken); // of two processes at the same point one renames, the other finds nothing to rename
    appendFileSync(`${path}.hits`, `${name}\n`);
    const left = rest.join('\n');
    if (left === '') rmSync(taken);
    else {
      writeFileSync(taken, left);
      renameSync(taken, path);
    }
    return signal;
  } catch {
    return null; // nothing is armed now
  }
}
