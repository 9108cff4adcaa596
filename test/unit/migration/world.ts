/**
 * A host without processes: real files in a temporary folder, a registry that keeps its JSON there, and a worker played by the
 * test. Everything durable is on the disk, so a "crash" is: this object graph throws from now on, a new one is made over the same folder.
 */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { VmStorageError } from '../../../src/model/errors.js';
import type { HardDisk, VmConfiguration } from '../../../src/model/vm.js';
import { moveFiles } from '../../../src/migration/files.js';
import { heldFolders } from '../../../src/native/held-folders.js';
import type { HeldFile, Log, MigrationPorts, VmRecord, WorkerClient } from '../../../src/migration/ports.js';
import { StorageMoves } from '../../../src/migration/moves.js';
import type { MoveRequest } from '../../../src/migration/request.js';
import { vmConfiguration as completeConfiguration } from '../../support/vm-configuration.js';
import { PlayedWorker, type PlayedHost } from './played-worker.js';

export const vmId = '2f1c7f0e-6f3b-4a1e-9d57-3b0a5f1f0001';

/** In memory where there is such a place: hundreds of moves fsync thousands of files here, and what they prove does not hang on the disk. */
const fastFolder = fs.existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir();

export class Crash extends Error {
  constructor(readonly step: string) {
    super(`crashed at ${step}`);
  }
}

/** Counts the durable steps of a graph; at the chosen one it does what the test wants, then is dead. */
export class Steps {
  readonly names: string[] = [];
  dead = false;
  #underWay = 0;

  constructor(private readonly at: { step: number; when: 'before' | 'after'; how: 'crash' | 'fail' } | null = null) {}

  /** Of a killed process no step is under way; a played host's would go on beside those of its successor. */
  async kill(): Promise<void> {
    this.dead = true;
    await reached(() => this.#underWay === 0);
  }

  /** Reads die with the host as well, but are no steps. */
  alive(): void {
    if (this.dead) throw new Crash('after death');
  }

  async run<T>(name: string, body: () => Promise<T>): Promise<T> {
    this.alive();
    this.names.push(name);
    const hit = this.at?.step === this.names.length ? this.at : null;
    if (hit?.when === 'before') this.#end(hit.how, name);
    this.#underWay++;
    const value = await body().finally(() => this.#underWay--);
    this.alive();
    if (hit?.when === 'after') this.#end(hit.how, name);
    return value;
  }

  #end(how: 'crash' | 'fail', name: string): never {
    if (how === 'fail') throw Object.assign(new Error(`EIO: injected at ${name}`), { code: 'EIO' });
    this.dead = true;
    throw new Crash(name);
  }
}

export class World implements PlayedHost {
  readonly vmId = vmId;
  readonly root = fs.mkdtempSync(path.join(fastFolder, 'vmstorage-move-'));
  readonly state = path.join(this.root, 'state');
  readonly slow = path.join(this.root, 'slow');
  readonly fast = path.join(this.root, 'fast');
  bootId = 'boot-1';
  hypervisorPid: number | null = null;
  limit = 2;
  worker: PlayedWorker;
  readonly logged: string[] = [];
  readonly ended: string[] = [];

  constructor() {
    fs.mkdirSync(path.join(this.state, 'moves'), { recursive: true });
    fs.mkdirSync(path.join(this.slow, 'Virtual Machines'), { recursive: true });
    const disks = ['a.img', 'b.img'].map((name, index) => {
      const file = path.join(this.slow, name);
      fs.writeFileSync(file, `content of ${name}\n`.repeat(100));
      return hardDisk(index, file);
    });
    const configuration = vmConfiguration(this.slow, disks);
    const file = path.join(this.slow, 'Virtual Machines', `${vmId}.vmcx`);
    fs.writeFileSync(file, JSON.stringify(configuration));
    this.writeRegistry({ [vmId]: file });
    this.worker = new PlayedWorker(
      this,
      disks.map((disk, index) => ({ index, path: disk.path })),
    );
  }

  destroy(): void {
    fs.rmSync(this.root, { recursive: true, force: true });
  }

  journal(id: string): string {
    return path.join(this.state, 'moves', `${id}.journal`);
  }

  readRegistry(): { [id: string]: string } {
    return JSON.parse(fs.readFileSync(path.join(this.state, 'registry.json'), 'utf8')) as { [id: string]: string };
  }

  writeRegistry(entries: { [id: string]: string }): void {
    fs.writeFileSync(path.join(this.state, 'registry.json'), JSON.stringify(entries));
  }

  configuration(id = vmId): VmConfiguration {
    return JSON.parse(fs.readFileSync(this.readRegistry()[id]!, 'utf8')) as VmConfiguration;
  }

  diskPaths(): readonly string[] | null {
    return this.readRegistry()[vmId] === undefined ? null : this.configuration().disks.map((disk) => disk.path);
  }

  add(configuration: VmConfiguration): void {
    const file = path.join(configuration.path, 'Virtual Machines', `${configuration.id}.vmcx`);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, JSON.stringify(configuration));
    this.writeRegistry({ ...this.readRegistry(), [configuration.id]: file });
  }

  rename(name: string): void {
    fs.writeFileSync(this.readRegistry()[vmId]!, JSON.stringify({ ...this.configuration(), name }));
  }

  /** Every file below a folder, relative, sorted. */
  files(folder: string): string[] {
    if (!fs.existsSync(folder)) return [];
    return fs
      .readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => !entry.isDirectory())
      .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)))
      .sort();
  }

  /** A new object graph over the same folder, as after a start of the host. */
  host(steps = new Steps(), overrides: Partial<MigrationPorts> = {}): { moves: StorageMoves; ports: MigrationPorts; steps: Steps } {
    const ports = { ...makePorts(this, steps), ...overrides };
    return { moves: new StorageMoves(ports), ports, steps };
  }

  /** What a starting host does for its migrations. */
  async restartHost(overrides: Partial<MigrationPorts> = {}): Promise<{ moves: StorageMoves; ports: MigrationPorts }> {
    const { moves, ports } = this.host(new Steps(), overrides);
    const hadJournal = fs.existsSync(this.journal(vmId));
    await moves.start();
    if (hadJournal) await moves.recover(ports.registry.byId(vmId)!, this.worker.status().journal);
    return { moves, ports };
  }
}

export async function allOver(moves: StorageMoves): Promise<void> {
  await reached(() => moves.unfinished().length === 0 && moves.leftOver().length === 0);
}

/** Turns the event loop until the condition holds. The limit is for a test that would hang. */
export async function reached(condition: () => boolean): Promise<void> {
  for (const end = Date.now() + 10_000; Date.now() < end;) {
    if (condition()) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
  throw new Error(`never reached: ${condition.toString()}`);
}

export function hardDisk(index: number, file: string): HardDisk {
  return {
    id: `00000000-0000-4000-8000-00000000000${index}`,
    controllerType: 'SCSI',
    controllerNumber: 0,
    controllerLocation: index,
    path: file,
    format: file.endsWith('.vhdx') ? 'vhdx' : 'raw',
    passThrough: false,
  };
}

export function vmConfiguration(folder: string, disks: readonly HardDisk[], id = vmId, name = 'web01'): VmConfiguration {
  return completeConfiguration(folder, { id, name, disks });
}

export function toFolder(folder: string, more: Partial<MoveRequest> = {}): MoveRequest {
  return {
    vm: { by: 'name', text: 'web01' },
    destination: { kind: 'single', folder },
    retainSources: false,
    removeUnmanagedParents: false,
    allowUnverifiedPaths: false,
    requireFullSize: false,
    ...more,
  };
}

const files = moveFiles(heldFolders);

/** Deleting what is held is a step of its host. */
async function stepping(held: Promise<HeldFile | null>, steps: Steps, at: string): Promise<HeldFile | null> {
  steps.alive();
  const file = await held;
  return file && { ...file, delete: () => steps.run(`delete ${path.extname(at)}`, () => file.delete()) };
}

function makePorts(world: World, steps: Steps): MigrationPorts {
  const moving = new Set<string>();
  const paths = new Map<string, string>();
  const last = new Map<string, Promise<unknown>>();
  const record = (id: string): VmRecord | undefined => {
    const file = world.readRegistry()[id];
    return file ? { configurationFile: file, configuration: world.configuration(id), owner: null } : undefined;
  };
  const client: WorkerClient = {
    vmId,
    get pid() {
      return world.worker.pid;
    },
    get answers() {
      return world.worker.pid !== null && !world.worker.silent;
    },
    call: ((method: string, params: unknown, options?: { signal?: AbortSignal }) =>
      method === 'status' || method === 'inspectImage' || method === 'readJournal'
        ? (steps.alive(), world.worker.call(method, params))
        : steps.run(method, () => world.worker.call(method, params, options?.signal))) as WorkerClient['call'],
    subscribe: (listener) => {
      world.worker.listeners.add(listener);
      return () => world.worker.listeners.delete(listener);
    },
  };
  const log: Log = {
    debug: () => undefined,
    info: (fields, text) => void world.logged.push(`${text} ${JSON.stringify(fields)}`),
    warn: (fields, text) => void world.logged.push(`${text} ${JSON.stringify(fields)}`),
    error: (fields, text) => void world.logged.push(`ERROR ${text} ${JSON.stringify(fields)}`),
    child: () => log,
  };
  let clockMs = 0;
  return {
    registry: {
      list: () => Object.keys(world.readRegistry()).flatMap((id) => record(id) ?? []),
      byId: (id) => (steps.alive(), record(id)),
      find: (text) =>
        Object.keys(world.readRegistry())
          .flatMap((id) => record(id) ?? [])
          .filter((vm) => [vm.configuration.id, vm.configuration.name].includes(text)),
      configurationFileUnder: (folder, id) => path.join(folder, 'Virtual Machines', `${id}.vmcx`),
      diskOwner: async (wanted) => {
        for (const id of Object.keys(world.readRegistry())) {
          const vm = record(id)?.configuration;
          if (vm?.disks.some((disk) => disk.path === wanted)) return { vmId: id, vmName: vm.name, path: wanted };
        }
        return null;
      },
      writeConfiguration: (configuration, file) =>
        steps.run('writeConfiguration', async () => {
          if (fs.existsSync(file) && (JSON.parse(fs.readFileSync(file, 'utf8')) as VmConfiguration).id !== configuration.id) {
            throw new VmStorageError('AlreadyExists', file);
          }
          fs.writeFileSync(file, JSON.stringify(configuration));
        }),
      isWritten: async (configuration, file) => {
        steps.alive();
        try {
          return isDeepStrictEqual(JSON.parse(fs.readFileSync(file, 'utf8')), configuration);
        } catch {
          return false; // none, or half a file
        }
      },
      repoint: (id, file) =>
        steps.run('repoint', async () => {
          world.writeRegistry({ ...world.readRegistry(), [id]: file });
          return record(id)!;
        }),
      deleteConfiguration: (id, file) =>
        steps.run('deleteConfiguration', async () => {
          if (world.readRegistry()[id] === file) throw new VmStorageError('InvalidState', 'in use');
          if (fs.existsSync(file) && (JSON.parse(fs.readFileSync(file, 'utf8')) as VmConfiguration).id !== id) {
            throw new VmStorageError('InvalidState', 'of another');
          }
          fs.rmSync(file, { force: true });
        }),
    },
    workers: {
      forVm: async () => (steps.alive(), client),
      peek: () => client,
      release: async (id) => void world.ended.push(id),
      betweenAttempts: (_, body) => body(),
      tool: (use) => use(client),
    },
    hypervisor: {
      runtime: () => ({
        state: world.hypervisorPid === null ? 'Off' : 'Running',
        pid: world.hypervisorPid,
        startedAt: null,
        accelerator: null,
        processorTimeMs: null,
        trouble: null,
      }),
    },
    locks: {
      claimMove: (id) => {
        steps.alive();
        if (moving.has(id)) throw new VmStorageError('ObjectInUse', 'moving');
        moving.add(id);
        return { release: () => void moving.delete(id) };
      },
      isMoving: (id) => moving.has(id),
      exclusive: (id, body) => {
        const mine = (last.get(id) ?? Promise.resolve()).then(body);
        last.set(
          id,
          mine.catch(() => undefined),
        );
        return mine;
      },
      claimPaths: (wanted, holder) => {
        for (const one of wanted) if (paths.has(one)) throw new VmStorageError('ObjectInUse', one);
        for (const one of wanted) paths.set(one, holder);
        return { release: () => wanted.forEach((one) => void paths.delete(one)) };
      },
      pathHolder: (one) => paths.get(one) ?? null,
    },
    paths: {
      stateFolder: world.state,
      movesFolder: path.join(world.state, 'moves'),
      journal: (id) => world.journal(id),
      marks: (id) => `${world.journal(id)}.marks`,
      witness: (id) => `${world.journal(id)}.committed`,
    },
    settings: {
      get current() {
        return { maximumStorageMigrations: world.limit, virtualHardDiskPath: world.slow, virtualMachinePath: world.slow };
      },
      subscribe: () => () => undefined,
    },
    clock: {
      now: () => new Date(),
      monotonicMs: () => clockMs,
      // A millisecond stands for any wait: waits are for what the test does next, never for time to pass.
      sleep: (delayMs, signal) =>
        new Promise((resolve, reject) => {
          clockMs += delayMs;
          const end = (): void => {
            clearTimeout(turn);
            reject(signal!.reason as Error);
          };
          const turn = setTimeout(() => {
            signal?.removeEventListener('abort', end);
            if (!steps.dead) resolve();
          }, 1);
          if (signal?.aborted) end();
          else signal?.addEventListener('abort', end);
        }),
    },
    log,
    files: {
      ...files,
      hold: (...args) => stepping(files.hold(...args), steps, String(args[0])),
      holdItself: (...args) => stepping(files.holdItself(...args), steps, String(args[0])),
      facts: async (at) => (steps.alive(), files.facts(at)),
      readText: async (at) => (steps.alive(), files.readText(at)),
      writeText: (at, text) => steps.run(`write ${path.extname(at)} ${path.basename(path.dirname(at))}`, () => files.writeText(at, text)),
      makeFolder: (...args) => steps.run('makeFolder', () => files.makeFolder(...args)),
      makeOwnFolder: (at) => steps.run('makeFolder', () => files.makeOwnFolder(at)),
      deleteFile: (at) => steps.run(`delete ${path.extname(at)}`, () => files.deleteFile(at)),
      setAside: (at) => steps.run('setAside', () => files.setAside(at)),
      deleteEmptyFolder: (...args) => steps.run('deleteEmptyFolder', () => files.deleteEmptyFolder(...args)),
    },
    get bootId() {
      return world.bootId;
    },
    hostNames: ['.', 'localhost'],
    computerName: 'host',
    newId: (() => {
      let next = 0;
      return () => `move-${++next}-${Math.random().toString(16).slice(2, 8)}`;
    })(),
  };
}
