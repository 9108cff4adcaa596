/** What a path given for a disk is: an image of a format known by its extension, or a block device; and whether it may be attached. */
import { lstat, stat } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { formatOf } from '../model/disk-format.js';
import { VmStorageError } from '../model/errors.js';
import type { DiskFormat } from '../model/vm.js';
import { errorCodeOf, hasCode, reasonOf } from '../os/errno.js';
import type { ImageFacts } from '../protocol/worker.js';
import type { HostServices, Owner } from './services.js';

/** Absolute, as the user spelled it; links are not resolved. */
export function absolutePath(given: string, cwd: string): string {
  if (given.includes('\0')) {
    throw new VmStorageError('InvalidParameter', `The path '${given.replaceAll('\0', '?')}' holds a NUL character, which no path has.`, {
      target: given,
    });
  }
  return resolve(cwd, given);
}

export interface DiskFile {
  readonly path: string;
  readonly format: DiskFormat;
  readonly passThrough: boolean;
}

export interface Examined {
  readonly file: DiskFile;
  /** What whoever attaches it should know. */
  readonly warnings: readonly string[];
}

/**
 * Refuses what cannot be attached: what somebody has, what could not be served, and, unless it is meant, an image of another format under
 * the name of a raw disk.
 */
export async function examineDisk(services: HostServices, path: string, by: Owner, allowForeignContent: boolean): Promise<Examined> {
  let found;
  try {
    found = await stat(path);
  } catch (cause) {
    const code = hasCode(cause, 'ENOENT', 'ENOTDIR') ? 'ObjectNotFound' : errorCodeOf(cause);
    throw new VmStorageError(code, `The disk '${path}' cannot be attached: ${reasonOf(cause)}.`, { target: path, cause });
  }
  // Whose machine it is to be may have part in the folders, and nobody else.
  if (found.isBlockDevice()) await refuseUnsafeDevice(services, path);
  else (await services.heldFolders.holdEntry(path, by)).folder.close();
  const owner = await services.registry.diskOwner(path);
  if (owner) {
    throw new VmStorageError(
      'ObjectInUse',
      `The disk '${path}' cannot be attached: virtual machine "${owner.vmName}" has it attached as '${owner.path}'. Detach it there first.`,
      { target: path },
    );
  }
  const holder = services.locks.pathHolder(path);
  if (holder !== null) throw new VmStorageError('ObjectInUse', `The disk '${path}' cannot be attached now: ${holder}.`, { target: path });
  const passThrough = found.isBlockDevice();
  if (!passThrough && !found.isFile())
    throw new VmStorageError('InvalidParameter', `The disk '${path}' cannot be attached: it is neither a file nor a block device.`, {
      target: path,
    });
  const format = passThrough ? 'raw' : formatOf(path);
  const facts = await services.workers.tool(async (tool) => {
    await tool.call('refuseInUse', { path });
    return tool.call('inspectImage', { path, format });
  });
  if (facts.foreignContent && !allowForeignContent) {
    throw new VmStorageError(
      'ImageUnsupported',
      `The disk '${path}' cannot be attached: ${passThrough ? 'it is a block device' : 'by its name it is a raw image'}, but its content is ${facts.foreignContent}. ` +
        'A virtual machine would see the container instead of the disk in it, and overwrite it. ' +
        'Convert it (qemu-img convert) or give it the extension of its format; -AllowForeignContent attaches it as it is.',
      { target: path },
    );
  }
  return { file: { path, format, passThrough }, warnings: (facts.warnings ?? []).map((text) => `'${path}': ${text}`) };
}

/** A device is opened by its path again, for QEMU: so the way to it has to be root's or the host's user's alone, whoever owns the machine. */
export async function refuseUnsafeDevice({ heldFolders }: HostServices, path: string): Promise<void> {
  (await heldFolders.holdEntry(path, null)).folder.close();
}

export type ImageKind = 'fixed' | 'dynamic';

export interface NewImage {
  readonly path: string;
  readonly kind: ImageKind;
  readonly sizeBytes: bigint;
  readonly blockSizeBytes: number | null;
  readonly logicalSectorBytes: number | null;
  readonly physicalSectorBytes: number | null;
  /** Who may have part in the folders that lead to it. */
  readonly owner: Owner;
}

const MIB = 2 ** 20;
/** [MS-VHDX] 2.6.2.2 and what Hyper-V itself accepts. */
const VHDX_SIZE = { minimum: 3n * BigInt(MIB), maximum: 64n * 2n ** 40n, multiple: 4096n };
const RAW_SIZE = { minimum: 512n, maximum: 2n ** 60n, multiple: 512n };
const BLOCK_SIZE = { minimum: MIB, maximum: 256 * MIB, default: 32 * MIB };

/** Makes a disk file. Nothing is there when it fails; what is there already is never touched. */
export async function createImage(services: HostServices, image: NewImage): Promise<ImageFacts> {
  const { path, sizeBytes } = image;
  const format = formatOf(path);
  const limits = format === 'vhdx' ? VHDX_SIZE : RAW_SIZE;
  if (sizeBytes < limits.minimum || sizeBytes > limits.maximum || sizeBytes % limits.multiple !== 0n) {
    throw badSize(
      path,
      `a size of ${sizeBytes} bytes is not possible; it must be a multiple of ${limits.multiple} from ${limits.minimum} to ${limits.maximum}`,
    );
  }
  const block = image.blockSizeBytes;
  if (block !== null && (format === 'raw' || block < BLOCK_SIZE.minimum || block > BLOCK_SIZE.maximum || (block & (block - 1)) !== 0)) {
    throw badSize(
      path,
      format === 'raw'
        ? 'a raw image has no block size'
        : `a block size of ${block} bytes is not possible; it must be a power of two from ${BLOCK_SIZE.minimum} to ${BLOCK_SIZE.maximum}`,
    );
  }
  if (format === 'raw' && (image.logicalSectorBytes ?? 512) !== 512) throw badSize(path, 'a raw image has sectors of 512 bytes');
  const claim = services.locks.claimPaths([path], 'a virtual hard disk is being created there');
  try {
    return await services.workers.tool((tool) =>
      tool.call(
        'createImage',
        {
          path,
          format,
          kind: image.kind,
          sizeBytes: String(sizeBytes),
          blockSizeBytes: format === 'vhdx' ? (block ?? BLOCK_SIZE.default) : null,
          logicalSectorBytes: format === 'vhdx' ? (image.logicalSectorBytes ?? 512) : null,
          physicalSectorBytes: format === 'vhdx' ? (image.physicalSectorBytes ?? 4096) : null,
          owner: image.owner,
        },
        { timeoutMs: 0 },
      ),
    );
  } catch (error) {
    throw error instanceof VmStorageError ? createError(path, error) : error;
  } finally {
    claim.release();
  }
}

const HEAD = 'Failed to create the virtual hard disk.';

function badSize(path: string, what: string): VmStorageError {
  return new VmStorageError('InvalidParameter', `${HEAD}\nThe system failed to create '${path}': ${what}. (0x80070057).`, { target: path });
}

/** Hyper-V's words and its one id for what the system refuses; scripts look for the numbers. */
export function createError(path: string, error: VmStorageError): VmStorageError {
  const words: Partial<Record<string, string>> = {
    AlreadyExists: 'The file exists. (0x80070050).',
    ObjectNotFound: 'The system cannot find the path specified. (0x80070003).',
    AccessDenied: 'General access denied error. (0x80070005).',
    NoSpace: 'There is not enough space on the disk. (0x80070070).',
  };
  const known = words[error.code];
  if (known === undefined) return error;
  return new VmStorageError(error.code, `${HEAD}\nThe system failed to create '${path}': ${known}`, {
    target: path,
    errorId: 'OperationFailed',
    category: 'NotSpecified',
    cause: error,
  });
}

/** What the file system says before anything is asked of a worker. */
export async function refuseOccupied(path: string, folderIsMade = false): Promise<void> {
  const present = await lstat(path).then(
    () => true,
    (error: unknown) => {
      if (hasCode(error, 'ENOENT', 'ENOTDIR')) return false;
      const said = `${HEAD}\nThe system failed to create '${path}': ${reasonOf(error)}.`;
      throw createError(path, new VmStorageError(errorCodeOf(error), said, { target: path, cause: error }));
    },
  );
  if (present) throw createError(path, new VmStorageError('AlreadyExists', `'${basename(path)}' exists.`));
  if (folderIsMade) return;
  const folder = await stat(resolve(path, '..')).catch(() => null);
  if (!folder?.isDirectory()) throw createError(path, new VmStorageError('ObjectNotFound', `There is no folder for '${path}'.`));
}
