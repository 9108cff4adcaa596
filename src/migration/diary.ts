/** What the log says of a move as a whole: one line when it begins, one when it ends, each enough without the lines between. */
import type { VmStorageError } from '../model/errors.js';
import type { MovePlan, MoveStatus } from '../model/move.js';
import { failureOf } from './failure.js';
import type { MigrationPorts } from './ports.js';
import type { MoveEnd } from './receipts.js';

export interface DiaryFacts {
  readonly plan: MovePlan | undefined;
  readonly status: MoveStatus | undefined;
}

export class Diary {
  readonly #beganMs: number;

  constructor(
    private readonly moveId: string,
    private readonly ports: Pick<MigrationPorts, 'log' | 'clock'>,
    /** Asked at each line: plan and figures change while it goes on. */
    private readonly facts: () => DiaryFacts,
  ) {
    this.#beganMs = ports.clock.monotonicMs();
  }

  begins(): void {
    this.ports.log.info(this.#what(), 'a move begins');
  }

  /** A failure is an error of the log, a stop a warning: both are looked for there. */
  ends(end: MoveEnd, error: VmStorageError | null): void {
    const { plan, status } = this.facts();
    const fields = {
      ...this.#what(),
      outcome: end,
      seconds: Math.round((this.ports.clock.monotonicMs() - this.#beganMs) / 100) / 10,
      bytesCopied: status?.bytesCopied ?? '0',
      bytesRecopied: status?.bytesRecopied ?? '0',
      bytesMirrored: status?.bytesMirrored ?? '0',
      bytesVerified: status?.bytesVerified ?? '0',
      guestMaxUs: status?.guestMaxUs ?? null,
      ...(error === null ? {} : failureOf(error, plan)),
    };
    const level = end === 'Completed' ? 'info' : end === 'Stopped' ? 'warn' : 'error';
    this.ports.log[level](fields, 'a move has ended');
  }

  #what(): object {
    const { plan, status } = this.facts();
    return {
      moveId: this.moveId,
      vmId: plan?.vmId ?? null,
      vmName: plan?.vmName ?? null,
      disks: plan?.disks.map(({ disk, source, target }) => ({ disk, source, target })) ?? [],
      configuration: plan ? { source: plan.configurationSource, target: plan.configurationTarget } : null,
      bytes: status?.bytesTotal ?? '0',
    };
  }
}
