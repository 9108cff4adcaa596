/** Who is told that something is not as it was: one small exchange between those who change things and the subscribers. */
import type { WatchedKind } from '../protocol/subscription.js';

export type ChangeListener = (kind: WatchedKind, id: string) => void;

export class Changes {
  readonly #listeners = new Set<ChangeListener>();

  get listeners(): number {
    return this.#listeners.size;
  }

  note(kind: WatchedKind, id: string): void {
    for (const listener of this.#listeners) listener(kind, id);
  }

  subscribe(listener: ChangeListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }
}
