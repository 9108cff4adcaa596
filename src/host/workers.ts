/** All workers of this host: one per VM that runs or moves, and short-lived ones without VM (see services.ts for the contract). */
import { rm } from 'node:fs/promises';
import { VmStorageError } from '../model/errors.js';
import { diskQueues } from '../model/vm.js';
import { boundLog } from '../os/bounded-logs.js';
import { isRefusedWrite, reasonOf } from '../os/errno.js';
import { systemFiles } from '../os/files.js';
import type { InstancePaths } from '../os/paths.js';
import { waitForExit } from '../os/processes.js';
import type { JournalStatus, ServedDisk } from '../protocol/worker.js';
import type { Registry, VmRecord } from '../registry/registry.js';
import type { WorkerClient, WorkerHealth, Workers } from './services.js';
import { VmWorker } from './vm-worker.js';
import { reachWorker, type WorkerStarterOptions } from './worker-process.js';
import { join } from 'node:path';

/** Tool workers at one time: each is a Node process, and they compete for the disks the guests use. */
const TOOLS_MAX = 4;
const TOOL_EXIT_LIMIT_MS = 10_000;

export interface HostWorkersOptions extends WorkerStarterOptions {
  readonly paths: InstancePaths;
  readonly registry: Registry;
  /** Whether the VM needs its worker: it is not off, or it moves. */
  readonly inUse: (vmId: string) => boolean;
  /** Told when there is something else to say of the health of a VM's worker. */
  readonly changed?: (vmId: string) => void;
  /** Compares the records of the VM's move before its disks are served (src/migration/records.ts). */
  readonly records: {
    judge(vmId: string, journal: JournalStatus | null): Promise<void>;
    refuseUnreadable(vmId: string, cause: unknown): Promise<never>;
  };
}

export class HostWorkers implements Workers {
  readonly #workers = new Map<string, { readonly worker: VmWorker; ready: Promise<unknown> }>();
  #tools = 0;
  #toolNumber = 0;
  readonly #toolQueue: (() => void)[] = [];

  constructor(private readonly options: HostWorkersOptions) {}

  async forVm(vm: VmRecord): Promise<WorkerClient> {
    const vmId = vm.configuration.id;
    const present = this.#workers.get(vmId);
    if (present) {
      await present.ready;
      if (this.#workers.get(vmId) === present && present.worker.health.state !== 'ending' && present.worker.health.state !== 'none')
        return present.worker;
      await present.worker.end();
      this.#forget(vmId, present.worker);
      return this.forVm(vm);
    }
    const worker = await this.#create(vmId);
    if (this.#workers.has(vmId)) return this.forVm(vm);
    await this.#track(vmId, worker, () => worker.start(true));
    return worker;
  }

  peek(vmId: string): WorkerClient | null {
    const worker = this.#workers.get(vmId)?.worker;
    return worker && worker.health.state !== 'none' && worker.health.state !== 'ending' ? worker : null;
  }

  health(vmId: string): WorkerHealth {
    return (
      this.#workers.get(vmId)?.worker.health ?? { state: 'none', pid: null, restarts: 0, trouble: null, diskErrors: [], longestTurn: null }
    );
  }

  betweenAttempts<T>(vmId: string, body: () => Promise<T>): Promise<T> {
    const worker = this.#workers.get(vmId)?.worker;
    return worker ? worker.betweenAttempts(body) : body();
  }

  async release(vmId: string): Promise<void> {
    const present = this.#workers.get(vmId);
    if (!present || this.options.inUse(vmId)) return;
    await present.worker.end();
    this.#forget(vmId, present.worker);
  }

  /**
   * After a host start. `needed`: a guest runs (or a journal waits), so a worker that is gone is started again and supervised from here on;
   * otherwise only one that is still there is taken over.
   */
  async adopt(vmId: string, needed: boolean): Promise<boolean> {
    const worker = await this.#create(vmId);
    if (needed) {
      await this.#track(vmId, worker, () => worker.startOrKeepTrying());
      return true;
    }
    let found = false;
    await this.#track(vmId, worker, async () => {
      found = await worker.start(false);
    });
    if (!found) this.#forget(vmId, worker);
    return found;
  }

  async tool<T>(use: (tool: WorkerClient) => Promise<T>): Promise<T> {
    if (this.#tools >= TOOLS_MAX) await new Promise<void>((resolve) => this.#toolQueue.push(resolve));
    else this.#tools += 1;
    try {
      return await this.#runTool(use);
    } finally {
      const next = this.#toolQueue.shift();
      if (next) next();
      else this.#tools -= 1;
    }
  }

  servedDisks(vm: VmRecord): readonly ServedDisk[] {
    const { owner } = vm;
    const { id, disks } = vm.configuration;
    return disks.flatMap((disk, index) =>
      disk.passThrough
        ? []
        : [
            {
              index,
              path: disk.path,
              format: disk.format,
              readOnly: false,
              queues: diskQueues(vm.configuration),
              vhostUserSocket: this.options.paths.diskSocket(id, index),
              nbdSocket: null,
              owner,
            },
          ],
    );
  }

  /** Lets go of all of them; they go on. */
  close(): void {
    for (const { worker } of this.#workers.values()) worker.detach();
    this.#workers.clear();
  }

  async #create(vmId: string): Promise<VmWorker> {
    const { paths, registry } = this.options;
    await systemFiles.makeFolders(paths.vmRunFolder(vmId));
    const logFile = paths.vmLog(vmId, 'worker');
    // None of these keeps a guest from its disks: without room a worker has no log, and a move is refused when it comes to its journal.
    await this.#ifThereIsRoom(paths.vmLogFolder(vmId), systemFiles.makeFolders(paths.vmLogFolder(vmId)));
    await this.#ifThereIsRoom(paths.movesFolder, systemFiles.makeFolders(paths.movesFolder));
    await this.#ifThereIsRoom(logFile, boundLog(logFile));
    return new VmWorker(
      { vmId, socket: paths.workerSocket(vmId), logFile },
      {
        ...this.options,
        changed: () => this.options.changed?.(vmId),
        journalPath: paths.journal(vmId),
        marksPath: paths.marks(vmId),
        judge: (journal) => this.options.records.judge(vmId, journal),
        refuseUnreadable: (cause) => this.options.records.refuseUnreadable(vmId, cause),
        disks: () => {
          const vm = registry.byId(vmId);
          if (!vm)
            throw new VmStorageError('ObjectNotFound', `Hyper-V was unable to find a virtual machine with id "${vmId}".`, { target: vmId });
          return this.servedDisks(vm);
        },
      },
    );
  }

  async #ifThereIsRoom(path: string, write: Promise<unknown>): Promise<void> {
    try {
      await write;
    } catch (error) {
      if (!isRefusedWrite(error)) throw error;
      this.options.log.warn({ path, reason: reasonOf(error) }, 'there is no room for this; it is done without');
    }
  }

  async #track(vmId: string, worker: VmWorker, start: () => Promise<unknown>): Promise<void> {
    const ready = start();
    const entry = { worker, ready: ready.catch(() => {}) };
    this.#workers.set(vmId, entry);
    try {
      await ready;
    } catch (error) {
      this.#forget(vmId, worker);
      throw error;
    }
  }

  #forget(vmId: string, worker: VmWorker): void {
    if (this.#workers.get(vmId)?.worker === worker) this.#workers.delete(vmId);
  }

  async #runTool<T>(use: (tool: WorkerClient) => Promise<T>): Promise<T> {
    const { paths, processes, clock } = this.options;
    const socket = paths.toolSocket(this.#toolNumber++);
    const logFile = join(paths.logsFolder, 'tool.log');
    await this.#ifThereIsRoom(logFile, boundLog(logFile));
    const reached = await reachWorker({ socket, vmId: null, logFile }, this.options, true);
    if (!reached) throw new VmStorageError('OperationFailed', 'The tool worker could not be started.');
    const { link, identity } = reached;
    try {
      return await use({
        vmId: null,
        pid: identity.pid,
        answers: true,
        call: (method, params, options) => link.call(method, params, options),
        subscribe: (listener) => link.subscribe(listener),
      });
    } finally {
      await link.call('shutdown', { force: true }).catch(() => {});
      link.close();
      if (!(await waitForExit(processes, clock, identity, TOOL_EXIT_LIMIT_MS))) processes.signal(identity, 'SIGKILL');
      await rm(socket, { force: true });
    }
  }
}
