/**
 * Holds a host or a worker at a named point (src/os/kill-point.ts), so that a test changes something at that very moment:
 *
 *     const points = StopPoints.arm(instance, 'host:folders');      before the host starts
 *     const pid = await points.reached('host:folders', () => instance.hostPid);   ...   points.goOn(pid);
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Instance } from './instance.js';
import { until } from './until.js';

export class StopPoints {
  private constructor(private readonly file: string) {}

  /** Every process of the instance that starts from now on looks there. */
  static for(instance: Instance): StopPoints {
    const file = join(instance.folder, 'points');
    instance.environment['VMSTORAGE_KILL_AT'] = `@${file}`;
    return new StopPoints(file);
  }

  /** The first process that comes to `point` from now on stands still there. */
  arm(point: string): void {
    writeFileSync(this.file, `stop:${point}`);
  }

  /** The pid of the process that stands still now. `over`: what was to come to the point, and ends without if something is wrong. */
  reached(point: string, pidOf: () => number | null, over: Promise<unknown>): Promise<number> {
    let ended = null as { readonly result: unknown } | null;
    const end = (result: unknown): void => void (ended = { result });
    over.then(end, end);
    return until(`a process stands still at ${point}`, () => {
      if (ended)
        throw new Error(
          `it was over before ${point}: ${JSON.stringify(ended.result instanceof Error ? ended.result.message : ended.result)}`,
        );
      const pid = pidOf();
      return pid !== null && stateOf(pid) === 'T' ? pid : undefined;
    });
  }

  goOn(pid: number): void {
    process.kill(pid, 'SIGCONT');
  }
}

function stateOf(pid: number): string | undefined {
  try {
    return /\) (\S) /.exec(readFileSync(`/proc/${pid}/stat`, 'latin1'))?.[1];
  } catch {
    return undefined; // ended meanwhile
  }
}
