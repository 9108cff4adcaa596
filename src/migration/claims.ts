/** What a move keeps from others until it is over: its VM, its paths, its room. Given back once, all together. */
import type { Claim } from './ports.js';

export class Claims {
  readonly #held: Claim[] = [];
  #released = false;

  add(claim: Claim): void {
    this.#held.push(claim);
  }

  /** False when it was done before. */
  release(): boolean {
    if (this.#released) return false;
    this.#released = true;
    for (const claim of this.#held) claim.release();
    return true;
  }
}
