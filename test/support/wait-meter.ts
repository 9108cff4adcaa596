/**
 * The built-in guest's longest wait, disk by disk, while something goes on: a wait that still lasts counts too. Beside it, how late this
 * process's own timer was: on a busy machine nobody is punctual, and what the test itself lived through is no disk's doing.
 */
import type { NativeGuestDisk } from '../../src/native/binding.js';

const LOOK_EACH_MS = 10;

export interface Waits {
  readonly longestMs: readonly number[];
  /** The longest this process itself was kept from running. */
  readonly ownDelayMs: number;
}

export class WaitMeter {
  readonly #longestUs: number[] = [];
  #ownDelayMs = 0;
  #over = false;
  readonly #run: Promise<void>;

  constructor(private readonly guest: () => Promise<readonly NativeGuestDisk[]>) {
    this.#run = this.#look();
  }

  async #look(): Promise<void> {
    while (!this.#over) {
      for (const [index, { oldestWaitUs }] of (await this.guest()).entries())
        this.#longestUs[index] = Math.max(this.#longestUs[index] ?? 0, oldestWaitUs);
      const asleepSince = performance.now();
      await new Promise((resolve) => setTimeout(resolve, LOOK_EACH_MS));
      this.#ownDelayMs = Math.max(this.#ownDelayMs, performance.now() - asleepSince - LOOK_EACH_MS);
    }
  }

  get soFar(): Waits {
    return { longestMs: this.#longestUs.map((us) => Math.round(us / 1000)), ownDelayMs: Math.round(this.#ownDelayMs) };
  }

  async end(): Promise<Waits> {
    this.#over = true;
    await this.#run;
    return this.soFar;
  }
}
