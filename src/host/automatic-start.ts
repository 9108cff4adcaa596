/**
 * AutomaticStartAction and AutomaticStartDelay: after a boot the host starts guests, once. A host that is merely started again finds the
 * same system and starts nothing.
 *
 * ```text
 *  running.json says        Nothing   StartIfRunning                         Start
 *  the same system          nothing is started but what still waits for its delay, and, when asked to, what was shut down for a stop
 *  another one: a boot      -         if it ran, or waited, or was shut down   started
 *                                     because the system stopped
 *  nothing (no file)        nothing is started: it may be the first host here, in the middle of a day
 * ```
 * A guest that cannot be started (its disk is not mounted yet) is tried again a few times; the log says how it went.
 */
import { VmStorageError } from '../model/errors.js';
import type { VmConfiguration, VmState } from '../model/vm.js';
import type { RunningGuests, RunningRecord } from '../registry/running.js';
import { startMachine } from './methods/start-vm.js';
import type { HostServices } from './services.js';

/** Before the second, third ... attempt: file systems that are mounted late, networks that come up. */
const AGAIN_AFTER_MS = [5_000, 15_000, 45_000];
/** At one time: each start reads firmware and opens disks, on a machine that has just booted. */
const PARALLEL = 4;

const without = (ids: readonly string[], id: string): string[] => ids.filter((one) => one !== id);
const withId = (ids: readonly string[], id: string): string[] => [...without(ids, id), id];

export class AutomaticStart {
  readonly #ended = new AbortController();
  #running = 0;
  readonly #queue: (() => void)[] = [];

  constructor(
    private readonly services: HostServices,
    private readonly record: RunningRecord,
    /** Which start of the system this is. */
    private readonly system: string,
  ) {}

  /** Once, after the guests that run were found: begins what a boot asks for. */
  async begin(): Promise<void> {
    const before = this.record.current;
    const isBoot = before !== null && before.system !== this.system;
    const due = before === null ? [] : isBoot ? this.#dueAfterBoot(before) : before.waiting;
    if (isBoot) this.services.log.info({ due }, 'the system was booted: guests are started');
    await this.record.change((old) => ({
      system: this.system,
      running: this.#all().filter((vmId) => this.services.hypervisor.state(vmId) !== 'Off'),
      stopped: isBoot ? [] : old.stopped,
      waiting: [...due],
    }));
    this.#start(due);
  }

  /** Those that were shut down for a stop of the system that was called off, or of this unit alone. */
  async startStopped(): Promise<readonly string[]> {
    const due = (this.record.current?.stopped ?? []).filter((vmId) => actionOf(this.services, vmId) !== 'Nothing');
    await this.record.change((old) => ({ ...old, stopped: [], waiting: [...new Set([...old.waiting, ...due])] }));
    this.#start(due);
    return due;
  }

  /** Every change of state of a guest. One that is starting or stopping is neither here nor there yet. */
  note(vmId: string, state: VmState): void {
    if (state === 'Off') void this.record.change((old) => ({ ...old, running: without(old.running, vmId) }));
    else if (state !== 'Starting' && state !== 'Stopping') {
      void this.record.change((old) => ({ ...old, running: withId(old.running, vmId), stopped: without(old.stopped, vmId) }));
    }
  }

  close(): void {
    this.#ended.abort();
    for (const wake of this.#queue.splice(0)) wake();
  }

  #all(): string[] {
    const { registry } = this.services;
    return [...registry.list().map((vm) => vm.configuration.id), ...registry.faults().map((fault) => fault.vmId)];
  }

  #dueAfterBoot({ running, stopped, waiting }: RunningGuests): string[] {
    const ran = new Set([...running, ...stopped, ...waiting]);
    const wants: Record<VmConfiguration['automaticStartAction'] | 'unknown', (vmId: string) => boolean> = {
      Nothing: () => false,
      StartIfRunning: (vmId) => ran.has(vmId),
      Start: () => true,
      unknown: (vmId) => ran.has(vmId), // its configuration may be on a file system that is mounted later
    };
    return this.#all().filter((vmId) => wants[actionOf(this.services, vmId)](vmId));
  }

  #start(due: readonly string[]): void {
    for (const vmId of due) {
      void this.#startOne(vmId)
        .catch((error: unknown) => this.services.log.error({ vmId, error: String(error) }, 'a guest was not started after the boot'))
        .then(() =>
          this.#ended.signal.aborted ? undefined : this.record.change((old) => ({ ...old, waiting: without(old.waiting, vmId) })),
        );
    }
  }

  async #startOne(vmId: string): Promise<void> {
    const { registry, clock, log } = this.services;
    const delayMs = (registry.byId(vmId)?.configuration.automaticStartDelaySeconds ?? 0) * 1000;
    for (const waitMs of [delayMs, ...AGAIN_AFTER_MS]) {
      const waited = await clock.sleep(waitMs, this.#ended.signal).then(
        () => true,
        () => false,
      );
      if (!waited || (await this.#inTurn(() => this.#attempt(vmId)))) return;
    }
    log.error({ vmId, attempts: AGAIN_AFTER_MS.length + 1 }, 'a guest could not be started after the boot; it stays off');
  }

  /** True when there is nothing more to try. What a person did meanwhile counts. */
  async #attempt(vmId: string): Promise<boolean> {
    const { registry, hypervisor, locks, log } = this.services;
    await registry.recheck();
    const vm = registry.byId(vmId);
    if (!vm) return !registry.faults().some((fault) => fault.vmId === vmId);
    const { name, automaticStartAction } = vm.configuration;
    if (automaticStartAction === 'Nothing') return true;
    try {
      await locks.exclusive(vmId, async () => {
        const present = registry.byId(vmId);
        const warn = async (text: string): Promise<void> => log.warn({ vmId, name }, text);
        if (present && hypervisor.state(vmId) === 'Off') await startMachine(this.services, present, warn);
      });
      log.info({ vmId, name }, 'a guest was started after the boot');
      return true;
    } catch (error) {
      if (!(error instanceof VmStorageError)) throw error;
      log.warn({ vmId, name, code: error.code, reason: error.message }, 'a guest could not be started after the boot yet');
      return false;
    }
  }

  async #inTurn(body: () => Promise<boolean>): Promise<boolean> {
    while (this.#running >= PARALLEL && !this.#ended.signal.aborted) await new Promise<void>((wake) => this.#queue.push(wake));
    if (this.#ended.signal.aborted) return true;
    this.#running += 1;
    try {
      return await body();
    } finally {
      this.#running -= 1;
      this.#queue.shift()?.();
    }
  }
}

function actionOf({ registry }: HostServices, vmId: string): VmConfiguration['automaticStartAction'] | 'unknown' {
  return registry.byId(vmId)?.configuration.automaticStartAction ?? 'unknown';
}
