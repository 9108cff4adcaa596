/**
 * Folders of our own: what is in them is believed and written without a second look, so nobody else may be able to put anything there, or
 * another folder in their place. The rule is that of sshd's StrictModes, for every folder on the way:
 *
 * ```text
 * /  ──  var  ──  lib  ──  vmstorage
 * each belongs to root or to us, and others cannot write to it (but for a sticky one like /tmp, whose entries are only their owners' to
 * replace); a link on the way is followed if it is root's or ours, and its way is looked at in the same manner.       the last: ours, no link
 * ```
 */
import { constants } from 'node:fs';
import { lstat, open, readdir, readlink, stat } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import { VmStorageError } from '../model/errors.js';
import { hasCode } from './errno.js';
import { systemFiles } from './files.js';

const LINKS_MOST = 40;
const STICKY = 0o1000;
const OTHERS_WRITE = 0o022;

export const ownUid = (): number => process.geteuid!();

/**
 * Makes the folder and its parents, or takes the one that is there, with exactly `mode`, or with the mode it has but for the right to write,
 * which is never others'. Throws (AccessDenied, InvalidParameter) when it is
 * somebody else's, is a link, or could be replaced by somebody else; rejects with the error of the system when it cannot be made.
 */
export async function makeOwnFolder(folder: string, mode: number | null = 0o700): Promise<void> {
  await refuseUnsafeWay(dirname(resolve(folder)), folder);
  await systemFiles.makeFolders(folder);
  const opened = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW).catch((cause: unknown) => {
    if (!hasCode(cause, 'ELOOP', 'ENOTDIR')) throw cause;
    throw new VmStorageError(
      'InvalidParameter',
      `'${folder}' is not used: it is a link or no folder. Name the folder itself, or remove it.`,
      {
        target: folder,
        cause,
      },
    );
  });
  try {
    const found = await opened.stat();
    if (found.uid !== ownUid()) throw notOurs(folder, folder, `belongs to user ${found.uid}`);
    const wanted = mode ?? found.mode & 0o7777 & ~OTHERS_WRITE;
    if ((found.mode & 0o7777) !== wanted) await opened.chmod(wanted);
  } finally {
    await opened.close();
  }
}

/** Throws (AccessDenied) when somebody else could put something of his in the place of `path`. What is not there yet is ours to make. */
export async function refuseUnsafeWay(path: string, folder: string = path): Promise<void> {
  let links = 0;
  let at = '/';
  const ahead = resolve(path).split('/').filter(Boolean);
  for (let name: string | undefined = ''; name !== undefined; name = ahead.shift()) {
    at = join(at, name);
    const found = await lstat(at).catch((cause: unknown) => {
      if (hasCode(cause, 'ENOENT')) return null;
      throw cause;
    });
    if (found === null) return;
    if (found.uid !== 0 && found.uid !== ownUid()) throw notOurs(folder, at, `belongs to user ${found.uid}`);
    if (found.isSymbolicLink()) {
      if (++links > LINKS_MOST) throw notOurs(folder, at, 'leads through too many links');
      const target = await readlink(at);
      ahead.unshift(...target.split('/').filter((part) => part !== '' && part !== '.'));
      // `..` is taken one step after the other, as the kernel does.
      at = isAbsolute(target) ? '/' : dirname(at);
    } else if (found.isDirectory() && (found.mode & OTHERS_WRITE) !== 0 && (found.mode & STICKY) === 0) {
      throw notOurs(folder, at, `can be written to by others (its mode is 0${(found.mode & 0o7777).toString(8)})`);
    }
  }
}

/**
 * For what is run or read as ours: throws (AccessDenied) when somebody else than root or us owns the file or a folder on the way, or may write
 * to one of them. `beside`: so must be everything else in its folder.
 */
export async function refuseOthersFiles(file: string, { beside = false } = {}): Promise<void> {
  await refuseUnsafeWay(file);
  const names = beside ? await readdir(dirname(file)) : [basename(file)];
  for (const at of names.map((name) => join(dirname(file), name))) {
    await refuseUnsafeWay(at);
    const found = await stat(at);
    if (found.uid !== 0 && found.uid !== ownUid()) throw notOurs(dirname(file), at, `belongs to user ${found.uid}`);
    if ((found.mode & OTHERS_WRITE) !== 0) {
      throw notOurs(dirname(file), at, `can be written to by others (its mode is 0${(found.mode & 0o7777).toString(8)})`);
    }
  }
}

function notOurs(folder: string, at: string, what: string): VmStorageError {
  return new VmStorageError(
    'AccessDenied',
    `The folder '${folder}' is not used: ${at === folder ? 'it' : `'${at}'`} ${what}. Whoever runs this (user ${ownUid()}) or root must own it, and nobody else ` +
      'may write to it: another could put files of his own there.',
    { target: folder, recommendedAction: 'Name a folder that only you can write to, or change its owner and mode.' },
  );
}
