/** The host's handlers with a real registry, locks and settings in a folder of their own, and a hypervisor and workers that only remember. */
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HostLocks } from '../../../src/host/locks.js';
import { gated } from '../../../src/host/methods/gate.js';
import { hostMethods } from '../../../src/host/methods/index.js';
import type { CmdletMethods, DiskError, HostServices, Migration, WorkerClient } from '../../../src/host/services.js';
import type { StartOptions } from '../../../src/hypervisor/hypervisor.js';
import { VmStorageError } from '../../../src/model/errors.js';
import type { MoveStatus } from '../../../src/model/move.js';
import type { VmConfiguration, VmState } from '../../../src/model/vm.js';
import { heldFolders } from '../../../src/native/held-folders.js';
import { systemClock } from '../../../src/os/clock.js';
import { hasCode } from '../../../src/os/errno.js';
import { fileTrouble } from '../../../src/host/file-trouble.js';
import { outsideLook } from '../../../src/os/outside-look.js';
import { systemFiles } from '../../../src/os/files.js';
import { silentLog } from '../../../src/os/log.js';
import { instancePaths } from '../../../src/os/paths.js';
import type { WireObject, WireValue } from '../../../src/protocol/messages.js';
import type { CreateImage, ImageFacts } from '../../../src/protocol/worker.js';
import { openRunning } from '../../../src/registry/running.js';
import { openRegistry } from '../../../src/registry/registry.js';
import { openSettings } from '../../../src/registry/settings.js';

export interface Record_ {
  readonly output: WireObject[];
  readonly errors: VmStorageError[];
  readonly warnings: string[];
  readonly asked: string[];
  /** What was asked whatever -Confirm says. */
  readonly sure: string[];
}

export interface Stage {
  readonly folder: string;
  readonly services: HostServices;
  readonly migration: Migration;
  readonly states: Map<string, VmState>;
  readonly moves: Map<string, MoveStatus>;
  readonly calls: string[];
  /** What the guest does when the power button is pressed. */
  obeys: boolean;
  /** What the tool says of an image instead of reading it. */
  inspectFails: VmStorageError | null;
  trouble: string | null;
  diskErrors: readonly DiskError[];
  /** Why a worker cannot open the disks of a machine. */
  workerFails: VmStorageError | null;
  peerPid: number | null;
  run(
    cmdlet: string,
    bound?: { [name: string]: WireValue },
    options?: { parameterSet?: string; yes?: boolean; sure?: boolean; cwd?: string },
  ): Promise<Record_>;
  end(): Promise<void>;
}

const QEMU_PID = 4242;

export async function makeStage(): Promise<Stage> {
  const folder = await mkdtemp(join(tmpdir(), 'vmstorage-host-'));
  const paths = instancePaths({ VMSTORAGE_HOME: join(folder, 'home') });
  await systemFiles.makeFolders(paths.stateFolder);
  const look = outsideLook();
  const registry = await openRegistry(paths, systemFiles, heldFolders, silentLog, look);
  const settings = await openSettings(paths, systemFiles, silentLog);
  const locks = new HostLocks();
  const states = new Map<string, VmState>();
  const moves = new Map<string, MoveStatus>();
  const calls: string[] = [];
  const facts = (path: string, size: string): ImageFacts => ({
    path,
    format: path.endsWith('.vhdx') ? 'vhdx' : 'raw',
    kind: 'dynamic',
    sizeBytes: size,
    fileBytes: '4194304',
    allocatedBytes: '4194304',
    growthBytes: '0',
    blockSizeBytes: 32 * 2 ** 20,
    logicalSectorBytes: 512,
    physicalSectorBytes: 4096,
    diskIdentifier: path.endsWith('.vhdx') ? 'ABCD' : null,
    dirtyLog: false,
  });
  const client = (vmId: string | null): WorkerClient => ({
    vmId,
    pid: 1,
    answers: true,
    subscribe: () => () => {},
    call: (async (method: string, params: unknown) => {
      calls.push(`${vmId === null ? 'tool' : 'worker'} ${method}`);
      if (method === 'createImage') {
        const image = params as CreateImage;
        await writeFile(image.path, 'image', { flag: 'wx' }).catch((error: unknown) => {
          throw new VmStorageError(hasCode(error, 'EEXIST') ? 'AlreadyExists' : 'StorageFailure', String(error));
        });
        return facts(image.path, image.sizeBytes);
      }
      if (method === 'inspectImage') {
        if (stage.inspectFails) throw stage.inspectFails;
        const { path } = params as { path: string };
        await stat(path).catch(() => {
          throw new VmStorageError('ObjectNotFound', `'${path}' is not there.`);
        });
        return facts(path, '1073741824');
      }
      if (method === 'refuseInUse') return {};
      const vm = registry.byId(vmId!)!;
      return {
        pid: 1,
        vmId,
        io: '',
        move: null,
        journal: null,
        longestTurn: null,
        disks: services.workers.servedDisks(vm).map((disk) => ({
          index: disk.index,
          path: disk.path,
          device: '',
          inode: '',
          sizeBytes: '1',
          peerPid: stage.peerPid,
          waitingFor: null,
          failed: null,
        })),
      };
    }) as WorkerClient['call'],
  });
  const services: HostServices = {
    registry,
    settings,
    running: await openRunning(paths, systemFiles, silentLog, 'this boot'),
    locks,
    heldFolders,
    paths,
    log: silentLog,
    clock: systemClock,
    fileTrouble: fileTrouble(look, { locks }),
    trouble: () => null,
    workers: {
      forVm: (vm) => (stage.workerFails ? Promise.reject(stage.workerFails) : Promise.resolve(client(vm.configuration.id))),
      peek: (vmId) => ((states.get(vmId) ?? 'Off') === 'Off' ? null : client(vmId)),
      health: () => ({ state: 'serving', pid: 1, restarts: 0, trouble: stage.trouble, diskErrors: stage.diskErrors, longestTurn: null }),
      release: () => Promise.resolve(),
      betweenAttempts: (_, body) => body(),
      tool: (use) => use(client(null)),
      servedDisks: (vm) =>
        vm.configuration.disks
          .filter((disk) => !disk.passThrough)
          .map((disk, index) => ({
            index,
            path: disk.path,
            format: disk.format,
            readOnly: false,
            queues: vm.configuration.processorCount,
            vhostUserSocket: paths.diskSocket(vm.configuration.id, index),
            nbdSocket: null,
          })),
    },
    hypervisor: {
      remark: null,
      state: (vmId) => states.get(vmId) ?? 'Off',
      runtime: (vmId) => ({
        state: states.get(vmId) ?? 'Off',
        pid: null,
        startedAt: null,
        accelerator: null,
        processorTimeMs: null,
        trouble: null,
      }),
      async start(vm: VmConfiguration, options: StartOptions = {}) {
        states.set(vm.id, 'Starting');
        try {
          await options.prepare?.();
          await options.verify?.(QEMU_PID);
          states.set(vm.id, 'Running');
          calls.push(`start ${vm.name}`);
        } catch (error) {
          states.set(vm.id, 'Off');
          throw error;
        }
      },
      shutDown(vmId) {
        calls.push('power button');
        if (stage.obeys) states.set(vmId, 'Off');
        return Promise.resolve(stage.obeys);
      },
      turnOff(vmId) {
        calls.push('plug');
        states.set(vmId, 'Off');
        return Promise.resolve();
      },
      pause: () => Promise.resolve(),
      resume(vmId) {
        states.set(vmId, 'Running');
        return Promise.resolve();
      },
      adopt: () => Promise.resolve('Off'),
      subscribe: () => () => {},
      close: () => {},
    },
  };
  const migration: Migration = {
    methods: {},
    status: (vmId) => moves.get(vmId) ?? null,
    shown: (moveId) => {
      const move = [...moves.values()].find((one) => one.moveId === moveId);
      return move ? { $t: 'VMStorageMove', MoveId: moveId, Phase: move.phase, PercentComplete: move.percent } : null;
    },
    shownIds: () => [...moves.values()].map(({ moveId }) => moveId),
    subscribe: () => () => {},
    recover: () => Promise.resolve(),
    abandon: () => undefined,
    start: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
  const methods: CmdletMethods = gated(hostMethods(services, migration), registry);
  const stage: Stage = {
    folder,
    services,
    migration,
    states,
    moves,
    calls,
    obeys: true,
    inspectFails: null,
    trouble: null,
    diskErrors: [],
    workerFails: null,
    peerPid: QEMU_PID,
    async run(cmdlet, bound = {}, options = {}) {
      const record: Record_ = { output: [], errors: [], warnings: [], asked: [], sure: [] };
      const signal = new AbortController().signal;
      try {
        await methods[cmdlet]!({
          cmdlet,
          bound,
          caller: () => Promise.resolve(null),
          parameterSet: options.parameterSet ?? '',
          cwd: options.cwd ?? folder,
          signal,
          stopRequested: signal,
          output: async (value) => void record.output.push(value),
          error: async (error) => void record.errors.push(error),
          warning: async (text) => void record.warnings.push(text),
          verbose: async () => {},
          information: async () => {},
          progress: async () => {},
          shouldProcess: async (text) => {
            record.asked.push(text);
            return options.yes ?? true;
          },
          shouldContinue: async (text) => {
            record.sure.push(text);
            return options.sure ?? true;
          },
        });
      } catch (error) {
        if (!(error instanceof VmStorageError)) throw error;
        record.errors.push(error);
      }
      return record;
    },
    end: () => rm(folder, { recursive: true, force: true }),
  };
  return stage;
}
