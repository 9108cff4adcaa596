/**
 * Where an instance keeps its things. `VMSTORAGE_HOME` puts all of it into one folder (<state> is that folder, <run> is `run` in it, and the
 * host's own socket stands in the folder itself, where clients look); without it, <state> is /var/lib/vmstorage and <run> /run/vmstorage.
 *
 * ```text
 * <state>/registry.json  settings.json  running.json  guest-users.json  accelerator.json  host.token  host.lock
 *         moves/<vm id>.journal    firmware/<vm id>.vars.fd    logs/host.log    logs/<vm id>/{worker,qemu,console,guest}.log
 * <run>/host.sock    <first 8 hex of vm id>/{worker,qmp,guest,d0,d1...}.sock, qemu.pid    tool-<pid>-<n>.sock
 * <marks>/<vm id>.marks    in memory: <run>/marks, or with VMSTORAGE_HOME /dev/shm/vmstorage-<hash of host.token> where there is a /dev/shm
 * ```
 */
import { createHash } from 'node:crypto';
import { statfsSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import { VmStorageError } from '../model/errors.js';

/** sun_path holds 108 bytes with its terminating zero (unix(7)); a longer name is silently cut by some callers. */
export const SOCKET_PATH_MAX_BYTES = 107;
/** The longest name below the run folder: `/12345678/worker.sock`. */
const LONGEST_SOCKET_NAME = '/12345678/worker.sock';

export interface InstancePaths {
  readonly stateFolder: string;
  readonly runFolder: string;
  readonly hostSocket: string;
  readonly registryFile: string;
  readonly settingsFile: string;
  /** Which guests run, for the host after the next boot. */
  readonly runningFile: string;
  /** Which user each VM's QEMU runs as. */
  readonly guestUsersFile: string;
  readonly acceleratorFile: string;
  /** Random: names the folder in memory. */
  readonly tokenFile: string;
  /** Keeps a second host away. */
  readonly lockFile: string;
  readonly movesFolder: string;
  /** Only for what a `kill -9` must not lose and a power cut may (native/engine/src/mirror/marks.rs). */
  readonly marksFolder: string;
  readonly firmwareFolder: string;
  readonly logsFolder: string;
  readonly hostLog: string;
  journal(vmId: string): string;
  /** Says that the move of the journal has switched (native/engine/src/mirror/witness.rs). */
  witness(vmId: string): string;
  marks(vmId: string): string;
  firmwareVariables(vmId: string): string;
  vmRunFolder(vmId: string): string;
  workerSocket(vmId: string): string;
  qmpSocket(vmId: string): string;
  /** By which a built-in guest is asked (src/hypervisor/built-in.ts). */
  guestSocket(vmId: string): string;
  qemuPidFile(vmId: string): string;
  diskSocket(vmId: string, index: number): string;
  toolSocket(number: number): string;
  vmLogFolder(vmId: string): string;
  vmLog(vmId: string, which: 'worker' | 'qemu' | 'console' | 'guest'): string;
}

/** `token`: what is in the token file. Without it the folder in memory is not known, and is taken to be in the run folder. */
export function instancePaths(environment: { readonly [name: string]: string | undefined }, token?: string): InstancePaths {
  const home = environment['VMSTORAGE_HOME'];
  if (home !== undefined && home !== '' && !isAbsolute(home)) {
    throw new VmStorageError('InvalidParameter', `VMSTORAGE_HOME is '${home}', which is not an absolute path. Set it to a full path.`);
  }
  const stateFolder = home ? resolve(home) : '/var/lib/vmstorage';
  const runFolder = home ? join(stateFolder, 'run') : '/run/vmstorage';
  const longestBytes = Buffer.byteLength(runFolder + LONGEST_SOCKET_NAME);
  if (longestBytes > SOCKET_PATH_MAX_BYTES) {
    throw new VmStorageError(
      'InvalidParameter',
      `The folder '${runFolder}' is too long for socket names (${longestBytes} of at most ${SOCKET_PATH_MAX_BYTES} bytes). Set VMSTORAGE_HOME to a shorter path.`,
    );
  }
  // /run is in memory; a home need not be. Without a /dev/shm the run folder has to do: it is right there too, and may be slow.
  const marksFolder = home && token !== undefined && isTmpfs('/dev/shm') ? sharedFolderOf(token) : join(runFolder, 'marks');
  const vmRunFolder = (vmId: string): string => join(runFolder, runName(vmId));
  const vmLogFolder = (vmId: string): string => join(stateFolder, 'logs', vmId);
  return {
    stateFolder,
    runFolder,
    hostSocket: join(home ? stateFolder : runFolder, 'host.sock'),
    registryFile: join(stateFolder, 'registry.json'),
    settingsFile: join(stateFolder, 'settings.json'),
    runningFile: join(stateFolder, 'running.json'),
    guestUsersFile: join(stateFolder, 'guest-users.json'),
    acceleratorFile: join(stateFolder, 'accelerator.json'),
    tokenFile: join(stateFolder, 'host.token'),
    lockFile: join(stateFolder, 'host.lock'),
    movesFolder: join(stateFolder, 'moves'),
    marksFolder,
    firmwareFolder: join(stateFolder, 'firmware'),
    logsFolder: join(stateFolder, 'logs'),
    hostLog: join(stateFolder, 'logs', 'host.log'),
    journal: (vmId) => join(stateFolder, 'moves', `${vmId}.journal`),
    witness: (vmId) => join(stateFolder, 'moves', `${vmId}.journal.committed`),
    marks: (vmId) => join(marksFolder, `${vmId}.marks`),
    firmwareVariables: (vmId) => join(stateFolder, 'firmware', `${vmId}.vars.fd`),
    vmRunFolder,
    workerSocket: (vmId) => join(vmRunFolder(vmId), 'worker.sock'),
    qmpSocket: (vmId) => join(vmRunFolder(vmId), 'qmp.sock'),
    guestSocket: (vmId) => join(vmRunFolder(vmId), 'guest.sock'),
    qemuPidFile: (vmId) => join(vmRunFolder(vmId), 'qemu.pid'),
    diskSocket: (vmId, index) => join(vmRunFolder(vmId), `d${index}.sock`),
    toolSocket: (number) => join(runFolder, `tool-${process.pid}-${number}.sock`),
    vmLogFolder,
    vmLog: (vmId, which) => join(vmLogFolder(vmId), `${which}.log`),
  };
}

/** The same for every host of the instance. The token itself is not shown to those who may list the folder. */
function sharedFolderOf(token: string): string {
  return `/dev/shm/vmstorage-${createHash('sha256').update(token).digest('hex').slice(0, 16)}`;
}

/** TMPFS_MAGIC of statfs(2). */
const TMPFS = 0x01021994;

function isTmpfs(folder: string): boolean {
  try {
    return statfsSync(folder).type === TMPFS;
  } catch {
    return false;
  }
}

/** The name of a VM's run folder. 32 bits of a random id: New-VM draws again when another VM has the same (registry.add refuses it). */
export function runName(vmId: string): string {
  return vmId.slice(0, 8).toLowerCase();
}
