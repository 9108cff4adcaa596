/**
 * `vmstorage serve <image> --nbd <socket> [--read-only]`: qemu-nbd's job. Serves one image file to NBD clients until Ctrl+C,
 * then closes it cleanly. Read-only never writes the file; a dirty VHDX log is then replayed in memory.
 */
import { resolve, extname } from 'node:path';
import { parseArgs } from 'node:util';
import { VmStorageError } from '../model/errors.js';
import { native } from '../native/binding.js';
import { callNative, fromNative } from '../native/errors.js';
import type { DiskFormat } from '../model/vm.js';

/** The format comes from the extension, never from content a guest can write. */
function formatOf(path: string): DiskFormat {
  const extension = extname(path).toLowerCase();
  if (extension === '.vhdx') return 'vhdx';
  if (extension === '.img' || extension === '.raw' || path.startsWith('/dev/')) return 'raw';
  if (extension === '.vhd' || extension === '.qcow2' || extension === '.avhdx') {
    throw new VmStorageError('NotImplemented', `Serving '${path}' needs a format that is not implemented yet (${extension}).`);
  }
  throw new VmStorageError('InvalidParameter', `The format of '${path}' is not known from its extension; use .vhdx, .img or .raw.`);
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { nbd: { type: 'string' }, 'read-only': { type: 'boolean', default: false } },
  });
  const image = positionals[0];
  if (!image || positionals.length > 1 || !values.nbd) {
    throw new VmStorageError('InvalidParameter', 'Usage: vmstorage serve <image> --nbd <socket> [--read-only]');
  }
  process.umask(0o077);
  const path = resolve(image);
  const socket = resolve(values.nbd);
  const disk = { index: 0, path, format: formatOf(path), readOnly: values['read-only'], vhostUserSocket: null, nbdSocket: socket };
  const engine = native().NativeEngine.start(() => undefined);
  let ending = false;
  const end = async (): Promise<void> => {
    if (ending) return;
    ending = true;
    await engine.close();
    process.exit(0);
  };
  process.on('SIGINT', () => void end());
  process.on('SIGTERM', () => void end());
  await callNative(engine.serve([disk], '', 0));
  process.stdout.write(`serving ${path} at nbd+unix:///?socket=${socket}${disk.readOnly ? ' (read-only)' : ''}\n`);
  // The engine's threads serve; this keeps Node alive until a signal.
  setInterval(() => undefined, 1 << 30);
}

main().catch((error: unknown) => {
  const known = fromNative(error);
  process.stderr.write(`vmstorage serve: ${known.message}\n`);
  process.exit(known.exitCode);
});
