/** How the command line refuses what was typed. */
import { VmStorageError } from '../model/errors.js';

export function refuse(message: string, target?: string): never {
  throw new VmStorageError('InvalidParameter', message, target === undefined ? {} : { target });
}
