/** Waiting for a condition, with a limit: what tests do instead of sleeping. */

const LOOK_EACH_MS = 5;

/** Resolves with what `find` returns as soon as it is not undefined; what it throws ends the waiting. Rejects after `limitMs`. */
export async function until<T>(what: string, find: () => T | undefined | Promise<T | undefined>, limitMs = 30_000): Promise<T> {
  const limit = Date.now() + limitMs;
  for (;;) {
    const found = await find();
    if (found !== undefined) return found;
    if (Date.now() > limit) throw new Error(`Not within ${limitMs} ms: ${what}.`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_EACH_MS));
  }
}
