/** A worker that moves files by the contract of src/protocol/worker.ts, played by the test: what is durable is on the disk, the rest is forgotten when it dies. */
import * as fs from 'node:fs';
import { VmStorageError, type ErrorCode } from '../../../src/model/errors.js';
import type { JournalPhase, MovePlan, MoveStatus } from '../../../src/model/move.js';
import type { JournalStatus, WorkerEvent, WorkerLifeEvent, WorkerStatus } from '../../../src/migration/ports.js';
import { freshStatus } from '../../../src/migration/progress.js';

/** The world it lives in. */
export interface PlayedHost {
  readonly vmId: string;
  readonly bootId: string;
  journal(vmId: string): string;
  /** Where the VM's configuration has its disks, in order; null when it is not registered. */
  diskPaths(): readonly string[] | null;
}

/** What a worker has on disk and in memory; survives the host. One per VM. */
export class PlayedWorker {
  pid: number | null = 4242;
  /** It is there and does not answer. */
  silent = false;
  listeners = new Set<(event: WorkerEvent | WorkerLifeEvent) => void>();
  move: MoveStatus | null = null;
  /** Where the engine waits until the test lets it go on; null runs through. */
  holdAt: JournalPhase | null = null;
  /** The engine fails when it reaches this phase. */
  failAt: { phase: JournalPhase; code: string; message: string; disk?: number; path?: string } | null = null;
  /** What it answers instead of beginning. */
  refuseStart: { code: ErrorCode; message: string; path: string } | null = null;
  /** The worker dies once, at this step of its own. */
  dieAt: string | null = null;
  /** The worker cannot reach its targets any more and leaves them, as one whose destination is gone. */
  keepTargets = false;
  /** What it has to say of the targets it made. */
  warnings: readonly string[] = [];
  peerPid: number | null = null;
  steps: string[] = [];
  calls: string[] = [];
  #running: Promise<void> | null = null;
  #generation = 0;

  constructor(
    private readonly world: PlayedHost,
    private disks: { index: number; path: string }[],
  ) {}

  get journalFile(): string {
    return this.world.journal(this.world.vmId);
  }

  get journal(): JournalStatus | null {
    try {
      return JSON.parse(fs.readFileSync(this.journalFile, 'utf8')) as JournalStatus;
    } catch {
      return null;
    }
  }

  status(): WorkerStatus {
    const journal = this.journal;
    const switched = journal !== null && ['committed', 'released', 'deleted'].includes(journal.phase);
    return {
      pid: this.pid ?? 0,
      vmId: this.world.vmId,
      io: 'played',
      longestTurn: null,
      disks: this.disks.map(({ index, path: at }) => {
        const moved = journal?.plan.disks.find((disk) => disk.disk === index);
        const served = moved ? (switched ? moved.target : moved.source) : at;
        const stat = fs.statSync(served, { bigint: true, throwIfNoEntry: false });
        return {
          index,
          path: served,
          device: String(stat?.dev ?? 0),
          inode: String(stat?.ino ?? 0),
          sizeBytes: String(stat?.size ?? 0),
          peerPid: this.peerPid,
          waitingFor: null,
          failed: null,
        };
      }),
      move: this.move && { ...this.move, warnings: this.warnings },
      journal,
    };
  }

  async call(method: string, params: unknown, signal?: AbortSignal): Promise<unknown> {
    // A tool reads a journal for the host where there is no worker.
    if (this.pid === null && method !== 'readJournal') throw lost();
    while (this.silent) await new Promise((resolve) => setImmediate(resolve));
    this.calls.push(method);
    if (method === 'readJournal') return { journal: this.status().journal };
    if (method === 'status') return this.status();
    if (method === 'inspectImage') return inspect((params as { path: string }).path);
    if (method === 'startMove') return this.#startMove((params as { plan: MovePlan }).plan, signal);
    if (method === 'stopMove') return this.#stopMove();
    if (method === 'releaseMove') {
      if (!this.move?.outcome?.ok) throw new VmStorageError('InvalidState', 'the move has not switched yet');
      this.#record('released');
      return {};
    }
    if (method === 'endMove') {
      this.#step('endMove');
      if (!this.journal) throw new VmStorageError('InvalidState', 'no move is under way');
      for (const disk of this.disks) disk.path = this.#servedNow(disk.index) ?? disk.path;
      fs.rmSync(this.journalFile, { force: true });
      this.move = null;
      return {};
    }
    throw new Error(`not played: ${method}`);
  }

  /** kill -9 and a new process: memory is gone, the journal is read, an unfinished move resumes. */
  restart(): void {
    this.#generation++;
    this.#running = null;
    this.move = null;
    const journal = this.journal;
    for (const disk of this.disks) disk.path = this.#registered(disk.index) ?? disk.path;
    this.pid = (this.pid ?? 4242) + 1;
    if (journal && !['committed', 'released', 'deleted'].includes(journal.phase)) {
      this.move = freshStatus(journal.plan.moveId, 'copy');
      if (journal.plan.bootId === this.world.bootId) this.#go(journal.plan);
      else this.#outcome(false, 'OperationFailed', 'another boot');
    } else if (journal) {
      this.move = { ...freshStatus(journal.plan.moveId, 'release'), percent: 100, outcome: { ok: true, code: '', message: '' } };
    }
  }

  /** Lets an engine that waits at `holdAt` go on. */
  goOn(): void {
    this.holdAt = null;
    const journal = this.journal;
    if (journal) this.#go(journal.plan);
  }

  /** Lets an engine that waits at `holdAt` fail there. */
  failNow(code: string, message: string): void {
    this.#generation++;
    this.#outcome(false, code, message);
  }

  async quiet(): Promise<void> {
    await this.#running;
  }

  die(): never {
    this.dieAt = null;
    this.pid = null;
    this.#generation++;
    for (const listener of [...this.listeners]) listener({ event: 'lost', reason: 'killed' });
    setImmediate(() => {
      this.pid = 4300;
      this.restart();
      for (const listener of [...this.listeners]) listener({ event: 'restored', status: this.status() });
    });
    throw lost();
  }

  #registered(index: number): string | undefined {
    return this.world.diskPaths()?.[index];
  }

  #servedNow(index: number): string | undefined {
    return this.status().disks.find((disk) => disk.index === index)?.path;
  }

  async #startMove(plan: MovePlan, signal?: AbortSignal): Promise<unknown> {
    if (signal?.aborted) throw new Error('aborted');
    if (this.journal) throw new VmStorageError('InvalidState', 'there is a move');
    if (this.refuseStart) throw new VmStorageError(this.refuseStart.code, this.refuseStart.message, { target: this.refuseStart.path });
    const made: string[] = [];
    for (const disk of plan.disks) {
      try {
        fs.writeFileSync(disk.target, '', { flag: 'wx' });
        made.push(disk.target);
      } catch (cause) {
        for (const file of made) fs.rmSync(file);
        const exists = (cause as NodeJS.ErrnoException).code === 'EEXIST';
        throw new VmStorageError(exists ? 'AlreadyExists' : 'StorageFailure', `cannot make '${disk.target}'`);
      }
      this.#step(`target ${disk.disk}`);
    }
    this.#write({ path: this.journalFile, phase: 'started', plan });
    this.move = freshStatus(plan.moveId, 'copy');
    this.#step('started');
    this.#go(plan);
    return {};
  }

  #stopMove(): { stopped: boolean } {
    this.#step('stopMove');
    const journal = this.journal;
    if (!journal) throw new VmStorageError('InvalidState', 'no move is under way');
    if (['committed', 'released', 'deleted'].includes(journal.phase)) return { stopped: false };
    this.#generation++;
    for (const disk of this.keepTargets ? [] : journal.plan.disks) fs.rmSync(disk.target, { force: true });
    this.#outcome(false, 'OperationStopped', 'stopped');
    return { stopped: true };
  }

  #go(plan: MovePlan): void {
    const generation = ++this.#generation;
    this.#running = this.#engine(plan, generation).catch((cause: unknown) => {
      if (!(cause instanceof VmStorageError)) throw cause;
    });
  }

  async #engine(plan: MovePlan, generation: number): Promise<void> {
    const phases: JournalPhase[] = ['copy', 'mirror', 'verify', 'prepared', 'committed'];
    for (const phase of phases) {
      await new Promise((resolve) => setImmediate(resolve));
      if (generation !== this.#generation) return;
      if (this.holdAt === phase) return;
      if (this.failAt?.phase === phase) {
        const { code, message, disk = null, path = null } = this.failAt;
        this.#outcome(false, code, message, { disk, path });
        return;
      }
      if (phase === 'copy') {
        for (const disk of plan.disks) {
          if (!fs.existsSync(disk.target)) {
            this.#outcome(false, 'StorageFailure', 'the target is gone');
            return;
          }
          fs.writeFileSync(disk.target, fs.readFileSync(disk.source));
        }
      }
      this.#record(phase);
      const shown = phase === 'prepared' ? 'switch' : phase === 'committed' ? 'release' : phase;
      this.move = { ...freshStatus(plan.moveId, shown as MoveStatus['phase']), percent: 50, bytesTotal: '1000', bytesCopied: '500' };
      this.#tell();
    }
    await new Promise((resolve) => setImmediate(resolve));
    if (generation === this.#generation) this.#outcome(true, '', 'The virtual machine runs on the destination.');
  }

  #outcome(
    ok: boolean,
    code: string,
    message: string,
    about: { disk: number | null; path: string | null } = { disk: null, path: null },
  ): void {
    if (!this.move) return;
    this.move = { ...this.move, outcome: { ok, code, message, ...about } };
    this.#tell();
  }

  #tell(): void {
    if (this.move) for (const listener of [...this.listeners]) listener({ event: 'move', status: this.move });
  }

  #record(phase: JournalPhase): void {
    const journal = this.journal;
    if (!journal) throw new VmStorageError('InvalidState', 'there is no move');
    this.#write({ ...journal, phase });
    this.#step(phase);
  }

  #write(journal: JournalStatus): void {
    fs.writeFileSync(this.journalFile, JSON.stringify(journal));
  }

  #step(name: string): void {
    this.steps.push(name);
    if (this.dieAt === name) this.die();
  }
}

function lost(): VmStorageError {
  return new VmStorageError('HostConnectionLost', 'The worker is gone.');
}

function inspect(file: string): object {
  const size = String(fs.statSync(file).size);
  return {
    path: file,
    format: 'raw',
    kind: 'fixed',
    sizeBytes: size,
    fileBytes: size,
    allocatedBytes: size,
    growthBytes: '0',
    dirtyLog: false,
  };
}
