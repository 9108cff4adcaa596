/**
 * The one place that constructs the host's parts and connects them. A host that is closed, or dies, leaves workers and guests as they are;
 * the next one finds them.
 */
import { rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { definitionsHash } from '../../cmdlets/hash.js';
import { chooseHypervisor } from '../hypervisor/choose.js';
import { createMigration, createRecords } from '../migration/migration.js';
import { VmStorageError } from '../model/errors.js';
import { heldFolders } from '../native/held-folders.js';
import { boundLogs } from '../os/bounded-logs.js';
import { systemClock } from '../os/clock.js';
import { errorCodeOf, isRefusedWrite, reasonOf } from '../os/errno.js';
import { systemFiles } from '../os/files.js';
import { createLog, type OpenLog } from '../os/log.js';
import { makeOwnFolder } from '../os/own-folder.js';
import { outsideLook } from '../os/outside-look.js';
import { instancePaths, type InstancePaths } from '../os/paths.js';
import { currentSystem, systemProcesses } from '../os/processes.js';
import { whyNoOtherUser } from '../os/privileges.js';
import { guestUserRange, openGuestUsers } from '../registry/guest-users.js';
import { openRunning } from '../registry/running.js';
import { openRegistry } from '../registry/registry.js';
import { openSettings } from '../registry/settings.js';
import { AutomaticStart } from './automatic-start.js';
import { Changes } from './changes.js';
import { confineWorkers } from './confined-worker.js';
import { completions } from './completion.js';
import { doorsOf, openFolder } from './doors.js';
import { fileTrouble } from './file-trouble.js';
import { holderOf } from './id-holder.js';
import { lockInstance } from './instance-lock.js';
import { pathsWithMemory } from './instance-token.js';
import { HostLocks } from './locks.js';
import { gated } from './methods/gate.js';
import { hostCommands } from './methods/host-commands.js';
import { hostMethods } from './methods/index.js';
import { watchHost } from './methods/watch-host.js';
import { peerOf } from './peer.js';
import { Places } from './places.js';
import { findRunning, removeDeadToolSockets, resumeMoves } from './recovery.js';
import { readRoles } from './roles.js';
import { serve } from './server.js';
import type { HostServices, Migration } from './services.js';
import type { WorkerProgram } from './worker-process.js';
import { HostWorkers } from './workers.js';

export const HOST_VERSION = '0.1.0';
/** Logs grow by what guests print; a look at each is one stat. What a guest prints between two looks has a limit of its own (qemu.ts). */
const LOG_CHECK_MS = 1_000;

export interface HostOptions {
  readonly environment: { readonly [name: string]: string | undefined };
  /** '-' for standard error. Default: the instance's logs/host.log. */
  readonly logFile?: string;
  readonly logLevel?: string;
  /** Default: this Node with the built worker. */
  readonly worker?: WorkerProgram;
  readonly migration?: (services: HostServices) => Migration;
}

export interface RunningHost {
  readonly paths: InstancePaths;
  readonly services: HostServices;
  /** Stops serving; workers and guests go on. */
  close(): Promise<void>;
}

export async function startHost(options: HostOptions): Promise<RunningHost> {
  process.umask(0o077);
  const places = instancePaths(options.environment);
  const notMade = await makeFolders(places);
  const lock = await lockInstance(places.lockFile, places.stateFolder);
  try {
    const paths = await pathsWithMemory(options.environment);
    const log = createLog(options.logFile === '-' ? null : (options.logFile ?? paths.hostLog), options.logLevel ?? 'info');
    for (const trouble of notMade) log.log.error({ trouble }, 'the state folder is not complete; the host goes on without');
    const host = await compose(options, paths, log);
    return {
      ...host,
      async close() {
        await host.close();
        // A folder in memory outside the instance's own is not left behind without need.
        await rmdir(paths.marksFolder).catch(() => {});
        await lock.release();
      },
    };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

async function compose(options: HostOptions, paths: InstancePaths, openLog: OpenLog): Promise<RunningHost> {
  const { environment } = options;
  const { log } = openLog;
  const [clock, processes, files] = [systemClock, systemProcesses, systemFiles];
  const look = outsideLook();
  const registry = await openRegistry(paths, files, heldFolders, log, look);
  const settings = await openSettings(paths, files, log);
  const running = await openRunning(paths, files, log, currentSystem());
  const locks = new HostLocks();
  const changes = new Changes();
  const guestUsers = guestUserRange(environment['VMSTORAGE_GUEST_USERS']);
  const users = await openGuestUsers(paths, {
    files,
    log,
    range: () => guestUsers,
    whyNot: whyNoOtherUser,
    holder: (uid) => holderOf(uid, processes),
    vmIds: () => [...registry.list().map((vm) => vm.configuration.id), ...registry.faults().map((fault) => fault.vmId)],
  });
  const whyNoUsers = whyNoOtherUser(guestUsers);
  if (whyNoUsers !== null) log.info({ reason: whyNoUsers }, "QEMU runs as the host's own user");
  const hypervisor = chooseHypervisor({ paths, processes, files, clock, log, environment, users });
  const records = createRecords({ registry, paths, heldFolders });
  const workers = new HostWorkers({
    program: options.worker ?? { command: [process.execPath, fileURLToPath(new URL('../worker/main.js', import.meta.url))] },
    confine: confineWorkers(process.geteuid?.() === 0, (reason) =>
      log.warn({ reason }, 'workers have no network and IPC namespace of their own here'),
    ),
    processes,
    clock,
    log,
    paths,
    registry,
    records,
    inUse: (vmId) => hypervisor.state(vmId) !== 'Off' || locks.isMoving(vmId),
    changed: (vmId) => changes.note('machine', vmId),
  });
  const services: HostServices = {
    registry,
    workers,
    hypervisor,
    settings,
    running,
    locks,
    heldFolders,
    paths,
    log,
    clock,
    fileTrouble: fileTrouble(look, { locks }),
    trouble: () => openLog.trouble(),
  };
  const migration = (options.migration ?? createMigration)(services);

  await removeDeadToolSockets(paths.runFolder);
  const claims = await findRunning({ services, hypervisor, workers });
  await migration.start();
  const automaticStart = new AutomaticStart(services, running, currentSystem());
  const unsubscribe = hypervisor.subscribe((vmId, state) => {
    automaticStart.note(vmId, state);
    changes.note('machine', vmId);
    if (state !== 'Off') return;
    void workers
      .release(vmId)
      .catch((error: unknown) => log.error({ vmId, error: String(error) }, 'a worker that is no longer needed does not end'));
  });
  registry.subscribe((vmId) => changes.note('machine', vmId));
  migration.subscribe((moveId, vmId, isNews) => {
    changes.note('move', moveId);
    if (isNews) changes.note('machine', vmId);
  });
  const places = new Places(() => clock.monotonicMs());
  const roles = await readRoles(environment, log);
  await openFolder(paths.hostSocket, roles, log);
  const server = await serve(doorsOf(paths.hostSocket, roles), {
    methods: gated(
      {
        ...hostMethods(services, migration),
        ...migration.methods,
        ...hostCommands(services, running, automaticStart),
        ...watchHost(services, migration, changes, places),
      },
      registry,
    ),
    peerOf,
    roles,
    complete: completions(registry),
    version: HOST_VERSION,
    definitions: definitionsHash(),
    clock,
    log,
  });
  const ended = new AbortController();
  resumeMoves(services, migration, claims, ended.signal);
  await automaticStart.begin();
  const lookAfterLogs = (): void => {
    openLog.tryAgain();
    void boundLogs(paths.logsFolder, paths.hostLog).catch((error: unknown) =>
      log.warn({ error: String(error) }, 'logs could not be bounded'),
    );
  };
  const logTimer = setInterval(lookAfterLogs, LOG_CHECK_MS);
  logTimer.unref();
  log.info({ socket: paths.hostSocket, machines: registry.list().length, version: HOST_VERSION }, 'the host serves');
  return {
    paths,
    services,
    async close() {
      clearInterval(logTimer);
      unsubscribe();
      automaticStart.close();
      ended.abort();
      // Together: a client whose move waits in line is told, before its connection is closed, that nothing was begun.
      await Promise.all([migration.close(), server.close()]);
      workers.close();
      hypervisor.close();
      log.info({}, 'the host ended; workers and guests go on');
    },
  };
}

/**
 * 0700, also where a folder was there before: it holds sockets and what guests print. One that is another's is refused. Returns what could
 * not be made for want of room: those who need it try again, and say so if it fails.
 */
async function makeFolders(paths: InstancePaths): Promise<readonly string[]> {
  for (const folder of new Set([paths.stateFolder, paths.runFolder, dirname(paths.hostSocket)])) {
    // The folder of the socket may be open to a group (doors.ts), also while no host is there.
    await makeOwnFolder(folder, folder === dirname(paths.hostSocket) ? null : 0o700).catch((cause: unknown) => {
      throw notMade(folder, cause);
    });
  }
  const missing: string[] = [];
  const lesser = (folder: string, made: Promise<unknown>): Promise<unknown> =>
    made.catch((cause: unknown) => {
      if (!isRefusedWrite(cause)) throw notMade(folder, cause);
      missing.push(notMade(folder, cause).message);
    });
  for (const folder of [paths.movesFolder, paths.firmwareFolder, paths.logsFolder]) await lesser(folder, makeOwnFolder(folder));
  // No state of ours: an administrator may have made it a link to where there is room. What it is used for looks at it anew.
  const disks = join(paths.stateFolder, 'Virtual Hard Disks');
  await lesser(disks, systemFiles.makeFolders(disks));
  return missing;
}

function notMade(folder: string, cause: unknown): VmStorageError {
  if (cause instanceof VmStorageError) return cause;
  return new VmStorageError(errorCodeOf(cause), `The folder '${folder}' cannot be made: ${reasonOf(cause)}.`, { target: folder, cause });
}
