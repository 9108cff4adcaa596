/** Waits for an answer that may never come: of a file system that hangs, say. */

/** The answer, or `late` after `limitMs`. One that comes late has nobody to tell, its error neither. */
export async function within<T>(limitMs: number, answer: Promise<T>): Promise<T | 'late'> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<'late'>((resolve) => (timer = setTimeout(() => resolve('late'), limitMs)));
  answer.catch(() => {});
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
