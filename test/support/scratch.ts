/** A temporary folder of one test: `await using scratch = await makeScratch('what')`; removed with everything in it. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Every temporary folder of tests and demo starts with this: the leak check looks for it. */
export const SCRATCH_PREFIX = 'vmstorage-';

export interface Scratch extends AsyncDisposable {
  readonly path: string;
}

export async function makeScratch(what: string): Promise<Scratch> {
  const path = await mkdtemp(join(process.env.VMSTORAGE_SCRATCH ?? tmpdir(), `${SCRATCH_PREFIX}${what}-`));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}
