/** Which QEMU there is, and what its version lets us ask for. */
import { execFile } from 'node:child_process';
import { access, constants } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { VmStorageError } from '../model/errors.js';

const run = promisify(execFile);

export interface QemuProgram {
  readonly path: string;
  readonly version: string;
  /** `reconnect-ms` came with 9.2; before it there is `reconnect`, in whole seconds. */
  readonly reconnectOption: string;
  /** `-accel kvm,device=` came with 9.0: /dev/kvm may be inherited. */
  readonly takesKvmDescriptor: boolean;
  /** Whether it was built with seccomp. */
  readonly sandbox: boolean;
}

/** -machine memory-backend= and -object memory-backend-memfd as used here. */
const OLDEST = [5, 0] as const;
const RECONNECT_MS_SINCE = [9, 2] as const;
const KVM_DEVICE_SINCE = [9, 0] as const;

export async function findQemu(environment: { readonly [name: string]: string | undefined }): Promise<QemuProgram> {
  const path = await locate(environment);
  // Options are read in order, and one that was not built in ends it before it comes to the version.
  const sandboxed = await version(path, '-sandbox', 'on').catch(() => null);
  return describeQemu(path, sandboxed ?? (await version(path)), sandboxed !== null);
}

async function version(path: string, ...options: readonly string[]): Promise<string> {
  try {
    return (await run(path, [...options, '--version'], { timeout: 10_000 })).stdout;
  } catch (cause) {
    throw new VmStorageError(
      'HypervisorFailure',
      `'${path} --version' failed: ${cause instanceof Error ? cause.message : String(cause)}.`,
      { cause },
    );
  }
}

export function describeQemu(path: string, versionOutput: string, sandbox = true): QemuProgram {
  const match = /version (\d+)\.(\d+)(\.\d+)?/.exec(versionOutput);
  if (!match) throw new VmStorageError('HypervisorFailure', `'${path} --version' does not name a version: ${versionOutput.slice(0, 80)}`);
  const found = [Number(match[1]), Number(match[2])] as const;
  if (older(found, OLDEST)) {
    throw new VmStorageError('HypervisorFailure', `'${path}' is QEMU ${match[1]}.${match[2]}; ${OLDEST.join('.')} or newer is needed.`);
  }
  return {
    path,
    version: `${match[1]}.${match[2]}${match[3] ?? ''}`,
    reconnectOption: older(found, RECONNECT_MS_SINCE) ? 'reconnect=1' : 'reconnect-ms=100',
    takesKvmDescriptor: !older(found, KVM_DEVICE_SINCE),
    sandbox,
  };
}

const older = (one: readonly [number, number], other: readonly [number, number]): boolean =>
  one[0] < other[0] || (one[0] === other[0] && one[1] < other[1]);

async function locate(environment: { readonly [name: string]: string | undefined }): Promise<string> {
  const chosen = environment['VMSTORAGE_QEMU'];
  const candidates = chosen
    ? [chosen]
    : [
        ...(environment['PATH'] ?? '')
          .split(delimiter)
          .filter((folder) => folder.startsWith('/'))
          .map((folder) => join(folder, 'qemu-system-x86_64')),
        '/usr/libexec/qemu-kvm',
      ];
  for (const candidate of candidates) {
    try {
      await access(candidate, constants.X_OK);
      return candidate;
    } catch {
      // the next one
    }
  }
  throw new VmStorageError(
    'HypervisorFailure',
    chosen
      ? `VMSTORAGE_QEMU names '${chosen}', which is not a program.`
      : 'QEMU was not found: there is no qemu-system-x86_64 in PATH. Install it (Debian: qemu-system-x86), or set VMSTORAGE_QEMU to it.',
  );
}
