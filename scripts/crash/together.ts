/**
 * Two disks switch together or not at all: while a move is struck around its switch, its workers are asked again and again where they
 * serve the disks from. One answer with a disk at each side may have been read in the middle of a switch; two in a row may not.
 */
import { WorkerLink } from '../../src/host/worker-link.js';
import { sleep, type CrashInstance, type Side } from './instance.js';

const ASK_EVERY_MS = 5;

export interface Together {
  /** Answers with all disks at one side, and with which. */
  readonly seen: { a: number; b: number };
  end(): Promise<void>;
}

export function watchTogether(instance: CrashInstance): Together {
  const seen = { a: 0, b: 0 };
  const ending = new AbortController();
  let mixedBefore = 0;
  const work = watch();
  work.catch(() => undefined); // told by end()
  return {
    seen,
    end() {
      ending.abort();
      return work;
    },
  };

  async function watch(): Promise<void> {
    while (!ending.signal.aborted) {
      const link = await WorkerLink.open(instance.paths.workerSocket(instance.vmId)).catch(() => null);
      if (link) await askAgainAndAgain(link).finally(() => link.close());
      await sleep(ASK_EVERY_MS); // it is dead now, and will be back
    }
  }

  async function askAgainAndAgain(link: WorkerLink): Promise<void> {
    while (!ending.signal.aborted) {
      const status = await link.call('status', {}, { timeoutMs: 5_000 }).catch(() => null);
      if (!status) return;
      const sides = new Set<Side>(status.disks.map(({ path }) => (path.startsWith(`${instance.place('a')}/`) ? 'a' : 'b')));
      if (sides.size === 2 && mixedBefore === status.pid) throw new Error(`one disk at each side: ${JSON.stringify(status)}`);
      mixedBefore = sides.size === 2 ? status.pid : 0;
      const [side] = sides;
      if (side !== undefined && sides.size === 1 && status.disks.length === instance.shape.disks.length) seen[side]++;
      await sleep(ASK_EVERY_MS);
    }
  }
}
