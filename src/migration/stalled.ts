/**
 * A move whose worker is not there, or does not answer, waits for it, for as long as it takes: only a worker can go on with its journal, or give it up. Its
 * claims stay, so nobody else touches the VM, the paths or the room; its place among the moves of this host goes to others meanwhile.
 */
import type { MigrationPorts } from './ports.js';
import type { MoveControl } from './scene.js';

/** A worker that died is back after a second or two; only one that is away, or silent, for longer is worth a word. */
const STALLED_AFTER_MS = 30_000;
const LOOK_EACH_MS = 1_000;

export interface Waiter {
  readonly vmId: string;
  readonly vmName: string;
  readonly ports: Pick<MigrationPorts, 'workers' | 'clock'>;
  readonly control: MoveControl;
  /** As `Scene.gate`: once the host has been closed nobody looks any more. */
  readonly gate: () => Promise<void>;
}

/** Resolves as `answer` does, which only a worker can give. */
export async function fromWorker<T>(waiter: Waiter, answer: Promise<T>): Promise<T> {
  const end = new AbortController();
  void lookAfterWorker(waiter, end.signal);
  try {
    return await answer;
  } finally {
    end.abort();
    waiter.control.stalled(false);
  }
}

async function lookAfterWorker({ vmId, vmName, ports: { workers, clock }, control, gate }: Waiter, end: AbortSignal): Promise<void> {
  let goneSinceMs: number | null = null;
  let said = false;
  while (!end.aborted) {
    const nowMs = clock.monotonicMs();
    goneSinceMs = workers.peek(vmId)?.answers ? null : (goneSinceMs ?? nowMs);
    const stalled = goneSinceMs !== null && nowMs - goneSinceMs >= STALLED_AFTER_MS;
    if (stalled && !said) {
      said = true;
      control.warn(
        `The storage worker of the virtual machine "${vmName}" does not answer; Get-VM says why. The move waits for it, and leaves its place to other moves.`,
      );
    }
    control.stalled(stalled);
    await clock.sleep(LOOK_EACH_MS, end).catch((cause: unknown) => {
      if (!end.aborted) throw cause;
    });
    await gate();
  }
}
