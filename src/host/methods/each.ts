/** Runs a handler's body once per object of a record: a refusal concerns that object, and the next ones go on. */
import { VmStorageError } from '../../model/errors.js';
import type { CmdletContext } from '../services.js';

export async function each<T>(context: CmdletContext, items: readonly T[], body: (item: T) => Promise<void>): Promise<void> {
  for (const item of items) {
    if (context.stopRequested.aborted) return;
    try {
      await body(item);
    } catch (error) {
      if (!(error instanceof VmStorageError)) throw error;
      await context.error(error);
    }
  }
}
