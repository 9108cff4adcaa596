/** The format of a disk file, by its extension and never by its content: a guest can write whatever it likes into its disk. */
import { VmStorageError } from './errors.js';
import type { DiskFormat } from './vm.js';

const formats: Readonly<Record<string, DiskFormat>> = { '.vhdx': 'vhdx', '.raw': 'raw', '.img': 'raw' };
const later: Readonly<Record<string, string>> = {
  '.vhd': 'VHD',
  '.avhd': 'VHD checkpoints',
  '.avhdx': 'checkpoints',
  '.vhds': 'VHD sets',
  '.qcow2': 'qcow2',
  '.vmdk': 'VMDK',
  '.vdi': 'VDI',
};

export function formatOf(path: string): DiskFormat {
  const leaf = path.slice(path.lastIndexOf('/') + 1);
  const dot = leaf.lastIndexOf('.');
  // A leaf that begins with its only dot is a name without an extension.
  const extension = dot > 0 ? leaf.slice(dot).toLowerCase() : '';
  const format = Object.hasOwn(formats, extension) ? formats[extension] : undefined;
  if (format) return format;
  if (Object.hasOwn(later, extension)) {
    throw new VmStorageError(
      'NotImplemented',
      `'${path}' cannot be used: ${later[extension]} is not implemented. Use .vhdx, or .img or .raw for a raw image.`,
      { target: path },
    );
  }
  throw new VmStorageError(
    'InvalidParameter',
    `'${path}' is not a virtual hard disk file by its name. Use .vhdx, or .img or .raw for a raw image.`,
    { target: path },
  );
}
