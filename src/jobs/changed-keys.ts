/**
 * What changed since one subscriber last looked: keys, not values. Whoever is slow finds each key once, however often it changed meanwhile, and
 * reads the value as it is then. So a subscriber costs a bounded set and holds nobody up.
 */
import { Bell } from './bell.js';

/** More than there are machines and moves on a host: a subscriber that is further behind is told everything anew. */
const KEYS_MAX = 8192;

export class ChangedKeys {
  readonly #keys = new Set<string>();
  readonly #bell = new Bell();
  #overflowed = false;

  constructor(private readonly most: number = KEYS_MAX) {}

  note(key: string): void {
    if (!this.#overflowed) this.#keys.add(key);
    if (this.#keys.size > this.most) {
      this.#keys.clear();
      this.#overflowed = true;
    }
    this.#bell.ring();
  }

  /** The key that waits longest; `everything` when too many changed; null once `signal` is aborted. */
  async next(signal: AbortSignal): Promise<{ readonly key: string } | 'everything' | null> {
    const wake = (): void => this.#bell.ring();
    signal.addEventListener('abort', wake, { once: true });
    try {
      for (;;) {
        if (signal.aborted) return null;
        if (this.#overflowed) {
          this.#overflowed = false;
          return 'everything';
        }
        const [key] = this.#keys;
        if (key !== undefined) {
          this.#keys.delete(key);
          return { key };
        }
        await this.#bell.rung();
      }
    } finally {
      signal.removeEventListener('abort', wake);
    }
  }
}
