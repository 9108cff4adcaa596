/** Memory that a process alone is charged for: Private_Dirty of proc(5), smaps_rollup. */
import { readFile } from 'node:fs/promises';

const SAMPLE_EACH_MS = 50;

export async function privateDirtyMiB(pid: number): Promise<number> {
  const kilobytes = /^Private_Dirty:\s+(\d+) kB/m.exec(await readFile(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1];
  if (kilobytes === undefined) throw new Error(`The kernel does not say how much memory process ${pid} has to itself.`);
  return Number(kilobytes) / 1024;
}

/** The most that a process had while `work` was under way, and what that gave. */
export async function mostWhile<T>(pid: number, work: () => Promise<T>): Promise<{ readonly mostMiB: number; readonly result: T }> {
  let mostMiB = await privateDirtyMiB(pid);
  let sampling = Promise.resolve();
  const timer = setInterval(() => {
    sampling = sampling.then(async () => {
      mostMiB = Math.max(mostMiB, await privateDirtyMiB(pid));
    });
    sampling.catch(() => undefined); // heard of below
  }, SAMPLE_EACH_MS);
  try {
    const result = await work();
    clearInterval(timer);
    await sampling;
    return { mostMiB, result };
  } finally {
    clearInterval(timer);
  }
}
