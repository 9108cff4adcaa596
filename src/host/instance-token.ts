/**
 * A secret of the instance, made once: the name of its folder in shared memory, where anybody may make folders. A name that others could
 * foresee they could take. One that was seen while the host ran and taken after its end is given up for a new one: what was in our folder of
 * that name was gone before it could be taken.
 */
import { randomBytes } from 'node:crypto';
import { rename } from 'node:fs/promises';
import { VmStorageError } from '../model/errors.js';
import { errorCodeOf, hasCode, reasonOf } from '../os/errno.js';
import { systemFiles } from '../os/files.js';
import { makeOwnFolder } from '../os/own-folder.js';
import { complain } from '../os/terminal.js';
import { instancePaths, type InstancePaths } from '../os/paths.js';

/** Each was seen and taken by somebody within a moment; more than this is no accident. */
const NAMES_TRIED_MOST = 8;

/** The paths of the instance with its folder in memory, which is made. The state folder is there, and locked. */
export async function pathsWithMemory(environment: { readonly [name: string]: string | undefined }): Promise<InstancePaths> {
  const file = instancePaths(environment).tokenFile;
  await setAsideMalformed(file);
  for (let tried = 1; ; tried += 1) {
    const paths = instancePaths(environment, await token(file));
    try {
      await makeOwnFolder(paths.marksFolder);
      return paths;
    } catch (error) {
      if (!(error instanceof VmStorageError) || tried === NAMES_TRIED_MOST) throw error;
      await written(file, systemFiles.replace(file, fresh()));
    }
  }
}

/** What was in the folder of a name that is lost is lost as in a power cut: interrupted moves begin again, or are complete. */
async function setAsideMalformed(file: string): Promise<void> {
  const text = await present(file).catch((error: unknown) => {
    if (error instanceof VmStorageError && hasCode(error.cause, 'EINVAL', 'EFBIG')) return '';
    throw error;
  });
  if (text === null || TOKEN.test(text)) return;
  const aside = `${file}.set-aside-${new Date().toISOString().replaceAll(':', '')}`;
  await written(file, rename(file, aside));
  complain(`vmstorage host: '${file}' does not hold 32 hexadecimal digits. It was renamed to '${aside}', and another one is made.`);
}

const TOKEN = /^[0-9a-f]{32}$/;
const fresh = (): string => randomBytes(16).toString('hex');

/** Read first: a host whose state folder has no room left starts all the same. */
async function token(file: string): Promise<string> {
  const text = (await present(file)) ?? (await make(file));
  if (!TOKEN.test(text)) throw new VmStorageError('ImageCorrupt', `'${file}' does not hold 32 hexadecimal digits.`, { target: file });
  return text;
}

async function present(file: string): Promise<string | null> {
  try {
    return (await systemFiles.readText(file)).trim();
  } catch (cause) {
    if (hasCode(cause, 'ENOENT')) return null;
    throw new VmStorageError(errorCodeOf(cause), `'${file}' cannot be read: ${reasonOf(cause)}.`, { target: file, cause });
  }
}

async function make(file: string): Promise<string> {
  await written(file, systemFiles.createExclusively(file, fresh()));
  return (await systemFiles.readText(file)).trim();
}

function written(file: string, write: Promise<void>): Promise<void> {
  return write.catch((cause: unknown) => {
    throw new VmStorageError(errorCodeOf(cause), `'${file}' cannot be written: ${reasonOf(cause)}.`, { target: file, cause });
  });
}
