/**
 * Who runs on which processor, where a figure depends on it. One request at a time is a message to and fro: on one processor it needs no
 * interrupt between two, and the kernel leaves the two threads wherever the first few requests happened to put them. Measured: 12,000 requests
 * per second or 7,000, for the same server. The CPUs of a guest are threads that run, so guest and server are put apart.
 */
import { readdir, readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import type { Children } from './children.js';

const GUEST_PROCESSOR = 0;
const SERVER_PROCESSOR = 1;
/** The name the addon gives the thread of a guest's first disk. */
const GUEST_THREAD = 'guest-disk0';

/** The threads of a server on one processor, the guest's on another; on a machine with one processor they stay where they are. */
export async function putApart(children: Children, serverPid: number): Promise<void> {
  if (availableParallelism() < 2) return;
  await children.run('taskset', ['-a', '-p', '-c', String(SERVER_PROCESSOR), String(serverPid)]);
  let found = false;
  for (const thread of await readdir('/proc/self/task')) {
    const name = (await readFile(`/proc/self/task/${thread}/comm`, 'utf8').catch(() => '')).trim(); // one that has ended meanwhile
    if (name !== GUEST_THREAD) continue;
    found = true;
    await children.run('taskset', ['-p', '-c', String(GUEST_PROCESSOR), thread]);
  }
  if (!found) throw new Error(`The guest has no thread ${GUEST_THREAD} any more: it cannot be put on a processor of its own.`);
}
