/**
 * `vmstorage serve <image> --nbd <socket> [--read-only] [--allow-foreign-content]`: qemu-nbd's job. Serves one image file to NBD clients until Ctrl+C, answers
 * what they have asked by then, and closes the image cleanly. Read-only never writes the file; a dirty VHDX log is then replayed
 * in memory.
 *
 *   opening --served--> serving --signal, or the command that started us is gone--> closing --> exit 0
 *      \--refused------------------------------------------------------------------> closing --> exit code of the error
 *
 * A signal while opening is obeyed when the image is open: closed in between, it would need a replay.
 */
import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { formatOf } from '../model/disk-format.js';
import { VmStorageError } from '../model/errors.js';
import { refuseWindowsPath } from '../model/windows-path.js';
import { visibleLine } from '../model/visible.js';
import { native, type NativeServedDisk } from '../native/binding.js';
import { callNative, fromNative } from '../native/errors.js';
import { complain, print } from '../os/terminal.js';

/** Ctrl+C, kill, a closed terminal, Ctrl+\: all of them close cleanly. A disk that hangs is left by SIGKILL. */
const endings = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;

interface Asked {
  readonly disk: NativeServedDisk;
  readonly socket: string;
  readonly allowForeignContent: boolean;
}

function readWords(words: readonly string[]): Asked {
  const usage = 'Usage: vmstorage serve <image> --nbd <socket> [--read-only] [--allow-foreign-content]';
  let parsed;
  try {
    parsed = parseArgs({
      args: [...words],
      allowPositionals: true,
      options: {
        nbd: { type: 'string' },
        'read-only': { type: 'boolean', default: false },
        'allow-foreign-content': { type: 'boolean', default: false },
      },
    });
  } catch (error) {
    throw new VmStorageError('InvalidParameter', `${(error as Error).message}. ${usage}`, { cause: error });
  }
  const { values, positionals } = parsed;
  const image = positionals[0];
  if (!image || positionals.length > 1 || !values.nbd) throw new VmStorageError('InvalidParameter', usage);
  refuseWindowsPath(image, 'The image');
  const path = resolve(image);
  const socket = resolve(values.nbd);
  // What lies on a block device is raw, whatever its name; a file has the format of its name, also in /dev/shm.
  const format = statSync(path, { throwIfNoEntry: false })?.isBlockDevice() ? 'raw' : formatOf(path);
  return {
    disk: { index: 0, path, format, readOnly: values['read-only'], queues: 1, vhostUserSocket: null, nbdSocket: socket, owner: null },
    socket,
    allowForeignContent: values['allow-foreign-content'],
  };
}

/** What a mounted disk gives its reader is an image of many moments, so that one is refused too, also read-only. */
async function refuseUnservable({ disk: { path, format }, allowForeignContent }: Asked): Promise<void> {
  await callNative(native().refuseInUse(path));
  const { foreignContent } = await callNative(native().inspectImage(path, format));
  if (foreignContent === null || allowForeignContent) return;
  throw new VmStorageError(
    'ImageUnsupported',
    `'${path}' is not served: it would be served as a raw disk, but its content is ${foreignContent}. ` +
      'Convert it (qemu-img convert) or give it the extension of its format; --allow-foreign-content serves it as it is.',
    { target: path },
  );
}

async function main(): Promise<void> {
  const asked = readWords(process.argv.slice(2));
  const { disk, socket } = asked;
  process.umask(0o077);
  const ended = new Promise<void>((end) => {
    for (const signal of endings) process.on(signal, () => end());
    // Only when a command started us: it would be gone without having passed a signal on, killed.
    if (process.connected) process.once('disconnect', () => end());
  });
  const engine = native().NativeEngine.start(() => undefined);
  try {
    await refuseUnservable(asked);
    await callNative(engine.serve([disk], '', 0));
    const uri = `nbd+unix:///?socket=${socket.split('/').map(encodeURIComponent).join('/')}`;
    print(`serving ${visibleLine(disk.path)} at ${uri}${disk.readOnly ? ' (read-only)' : ''}`);
    // The engine's threads serve; a pending promise alone does not keep Node running.
    const alive = setInterval(() => undefined, 1 << 30);
    await ended;
    clearInterval(alive);
  } finally {
    await callNative(engine.close());
  }
}

main().then(
  () => process.exit(0),
  (error: unknown) => {
    const known = fromNative(error);
    complain(`vmstorage serve: ${known.message}`);
    process.exit(known.exitCode);
  },
);
