/** A second connection to a worker, beside the host's: its status as it is, and the process behind its socket. */
import { readdirSync, readFileSync } from 'node:fs';
import type { MovePhase } from '../../src/model/move.js';
import { WorkerLink } from '../../src/host/worker-link.js';
import type { WorkerStatus } from '../../src/protocol/worker.js';
import { until } from './until.js';

export class WorkerProbe implements Disposable {
  #link: WorkerLink | null = null;

  constructor(readonly socket: string) {}

  /** Null while no worker answers: it is dead, or its successor does not listen yet. */
  async status(): Promise<WorkerStatus | null> {
    try {
      this.#link ??= await WorkerLink.open(this.socket);
      return await this.#link.call('status', {});
    } catch {
      this.#link?.close();
      this.#link = null;
      return null;
    }
  }

  /** The live process that was started for this socket, whether it listens or not. */
  get pid(): number | null {
    for (const name of readdirSync('/proc')) {
      if (!/^\d+$/.test(name)) continue;
      try {
        const words = readFileSync(`/proc/${name}/cmdline`, 'latin1').split('\0');
        if (words.includes(this.socket) && words.includes('--vm')) return Number(name);
      } catch {
        continue; // ended meanwhile
      }
    }
    return null;
  }

  /** Resolves at the first sight of a move in one of `phases`; null when `over` resolved before that. */
  async inPhase(phases: readonly MovePhase[], over: Promise<unknown>, limitMs = 60_000): Promise<MovePhase | null> {
    let ended = false;
    const end = (): void => void (ended = true);
    over.then(end, end);
    return until(
      `a move in ${phases.join(' or ')}`,
      async () => {
        const phase = (await this.status())?.move?.phase;
        if (phase !== undefined && phases.includes(phase)) return phase;
        return ended ? null : undefined;
      },
      limitMs,
    );
  }

  /** Resolves when a worker serves every one of `disks` disks to the VMM with this pid (null: to nobody in particular). */
  serves(disks: number, peer: number | null, limitMs = 60_000): Promise<WorkerStatus> {
    return until(
      `the worker serves ${disks} disks`,
      async () => {
        const status = await this.status();
        const ready = status?.disks.filter((disk) => disk.waitingFor === null && (peer === null || disk.peerPid === peer)) ?? [];
        return status && ready.length === disks ? status : undefined;
      },
      limitMs,
    );
  }

  /** kill -9; returns whom it hit, null when there was nobody. */
  kill(): number | null {
    const { pid } = this;
    if (pid === null) return null;
    try {
      process.kill(pid, 'SIGKILL');
      return pid;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ESRCH') return null;
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#link?.close();
    this.#link = null;
  }
}
