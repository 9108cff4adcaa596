/**
 * Operations on a file system that may hang: waited for a little, begun once. What does not end in time goes on by itself, and whoever asks for
 * the same again waits for that one: each holds a thread of this process as long as its file system hangs, and there are only a few.
 */

export const LINGERS = Symbol('lingers');

/** Of real time, whatever clock the moves have: it is the kernel that is waited for. */
export class Lingering {
  readonly #going = new Map<string, Promise<unknown>>();

  /** What `body` resolves with, or LINGERS after `patienceMs`. `about` tells operations apart: the same has to be the same body. */
  async within<T>(about: string, patienceMs: number, body: () => Promise<T>): Promise<T | typeof LINGERS> {
    const going = (this.#going.get(about) as Promise<T> | undefined) ?? this.#begin(about, body);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<typeof LINGERS>((resolve) => (timer = setTimeout(() => resolve(LINGERS), patienceMs)));
    try {
      return await Promise.race([going, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  #begin<T>(about: string, body: () => Promise<T>): Promise<T> {
    const going = body().finally(() => this.#going.delete(about));
    this.#going.set(about, going);
    // Nobody may be waiting any more when it fails; the next attempt meets the same.
    going.catch(() => undefined);
    return going;
  }
}
