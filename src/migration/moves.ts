/**
 * All moves of this host: takes requests, gives each its place, runs them, finds interrupted ones again, remembers the last ones.
 * It owns who moves (claims), where to (paths, space), in which order (the queue) and what is left to do (later).
 *
 * ```text
 * look ── plan, check: refusals, nothing written (also -WhatIf)
 *   └─ submit ── claim VM ─ look again ─ claim paths ─ promise space ─ queue
 *                                                                       └─ admitted: look again ─ run.ts ─ give everything back
 * recover, start ── claim VM ─ run.ts from the middle                                         └─ or later.ts
 * ```
 */
import * as path from 'node:path';
import { VmStorageError } from '../model/errors.js';
import type { MovePhase, MoveStatus } from '../model/move.js';
import { isRefusedWrite } from '../os/errno.js';
import { JobQueue } from '../jobs/queue.js';
import type { Job, JobEvent } from '../jobs/job.js';
import { Awaited, type MoveWork } from './awaited.js';
import { Claims } from './claims.js';
import { checkMove, holderName, type CheckedMove } from './check.js';
import { inQuiet } from './quiet.js';
import { Later } from './later.js';
import { Lingering } from './lingering.js';
import { Diary } from './diary.js';
import { Ledger, type LedgerEntry } from './ledger.js';
import { asMoveError, notTakenUp, ofTheSystem } from './move-error.js';
import { byTheirOwnPaths } from './named-disks.js';
import { forecast, type Forecast } from './forecast.js';
import type { Foreseen } from './foreseen.js';
import { RETAINED, planMove, type Planned } from './plan.js';
import type { JournalStatus, MigrationPorts, VmRecord } from './ports.js';
import { freshStatus } from './progress.js';
import { failureOf, onItsSource } from './failure.js';
import { RECEIPTS_KEPT, Receipts, type MoveEnd, type MoveReceipt } from './receipts.js';
import { isBegun, registrySays } from './records.js';
import { continuation, entryFromJournal, type Continuation } from './recover.js';
import { completed, keptText, release } from './release.js';
import { withBackOff, type BackOff } from './repeat.js';
import type { MoveRequest } from './request.js';
import { UnfinishedMove, runMove, type EntryPoint } from './run.js';
import { Scene, type MoveControl } from './scene.js';
import { Space } from './space.js';
import { fromWorker } from './stalled.js';
import { undo } from './undo.js';

/** Finished moves that Get-VMStorageMove still shows. */
export const FINISHED_KEPT = 64;

/** For a record without which an interrupted move cannot go on: its file system is full, and somebody will make room. */
const roomBackOff: BackOff = { firstMs: 1_000, mostMs: 10_000, attempts: Infinity };

export type MoveJob = Job<MoveStatus, MoveReceipt>;
/** `isNews`: more than figures changed. */
export type MoveListener = (moveId: string, vmId: string, isNews: boolean) => void;

export class StorageMoves {
  readonly ledger: Ledger;
  readonly receipts: Receipts;
  readonly #space: Space;
  readonly #later: Later;
  readonly #lingering = new Lingering();
  readonly #queue: JobQueue<MoveStatus, MoveReceipt>;
  readonly #plans = new Map<string, CheckedMove['plan']>();
  /** Entries of VMs that have a journal, until `recover` has said whose it is. */
  readonly #besideJournal: LedgerEntry[] = [];
  /** Of those, the moves that are shown already. */
  readonly #awaited = new Awaited();
  /** Claims of VMs whose records contradict each other, until a person has decided. */
  readonly #leftAlone = new Map<string, Claims>();
  readonly #listeners = new Set<MoveListener>();
  /** Of the moves that run, as it was last told. */
  readonly #phases = new Map<string, MovePhase>();
  #history: readonly MoveReceipt[] = [];
  #closed = false;

  constructor(private readonly ports: MigrationPorts) {
    this.ledger = new Ledger(ports.paths.movesFolder, ports.files);
    this.receipts = new Receipts(path.join(ports.paths.stateFolder, 'receipts'), ports.files, RECEIPTS_KEPT, (file, why) =>
      ports.log.warn({ file, why }, 'the receipt of a move cannot be read; it is left alone'),
    );
    this.#space = new Space(ports.files);
    this.#later = new Later(ports.clock, ports.log, this.ledger);
    this.#queue = new JobQueue({
      limit: () => ports.settings.current.maximumStorageMigrations,
      finishedKept: FINISHED_KEPT,
      now: () => ports.clock.now(),
      onChanged: (job, event) => this.#tell(job, event),
      onFinished: (job) => {
        this.#forgetOldPlans();
        this.#tell(job, 'state');
      },
    });
    ports.settings.subscribe(() => this.#queue.limitChanged());
  }

  // --- asking ------------------------------------------------------------------------------------------------------------------

  /** Plan and check without writing anything. Throws the refusal. */
  async look(vm: VmRecord, request: MoveRequest): Promise<Foreseen> {
    const foreseen = await this.foresee(vm, request);
    const [refusal] = foreseen.refusals;
    if (refusal) throw refusal;
    return foreseen;
  }

  /** The same with the refusals told, and as much of the rest as is known all the same. Throws what is no refusal. */
  async foresee(vm: VmRecord, request: MoveRequest): Promise<Foreseen> {
    const vmId = vm.configuration.id;
    const refusals: VmStorageError[] = [];
    const unlessRefused = async <T>(part: Promise<T>): Promise<T | null> => {
      try {
        return await part;
      } catch (cause) {
        const refusal = ofTheSystem(cause);
        if (!(refusal instanceof VmStorageError)) throw refusal;
        refusals.push(refusal);
        return null;
      }
    };
    if (this.ports.locks.isMoving(vmId)) refusals.push(this.of(vmId) ? alreadyMoving(vm) : notOver(vm));
    const planned = await unlessRefused(this.#plan(vmId, request, this.ports.newId()));
    const plan = planned?.plan ?? null;
    // Of a VM that moves the files are another move's to look at.
    const checked = plan && refusals.length === 0 ? await unlessRefused(checkMove(plan, this.ports, request)) : null;
    const room = checked ? await unlessRefused(this.#space.figures(checked.needs)) : null;
    const warnings = room && checked ? await unlessRefused(this.#space.check(checked.needs)) : null;
    const all = [...(planned?.nothing === undefined ? [] : [planned.nothing]), ...(warnings ?? [])];
    return { vm, plan, checked, remarks: planned?.remarks ?? [], room: room ?? [], warnings: all, refusals };
  }

  forecast({ checked }: Foreseen): Forecast | null {
    const done = this.finished().flatMap(({ outcome }) => (outcome?.state === 'succeeded' ? [outcome.value] : []));
    return checked && forecast(checked, done);
  }

  /** The same once more (`before`: what `look` said), with everything claimed, and a job. Null when there is nothing to do. */
  async submit(vm: VmRecord, request: MoveRequest, before: CheckedMove | null = null): Promise<MoveJob | null> {
    const vmId = vm.configuration.id;
    const moveId = this.ports.newId();
    const claims = new Claims();
    try {
      claims.add(this.ports.locks.claimMove(vmId));
      const checked = await this.#look(vmId, request, moveId, before);
      if (!checked) {
        claims.release();
        return null;
      }
      claims.add(this.ports.locks.claimPaths(checked.claims, holderName(checked.plan)));
      claims.add(await this.#space.promise(moveId, checked.needs));
      if (this.#closed) throw hostStopped();
      this.#plans.set(moveId, checked.plan);
      const work: MoveWork = (control) => this.#begin(control, vmId, request, checked, claims);
      const job = this.#queue.submit(moveId, vmId, freshStatus(moveId, 'queued'), this.#recorded(moveId, work));
      // A job that never got its place has no work that would give the claims back, or leave a record.
      void job.finished().then((outcome) => {
        if (job.startedAt !== null || outcome.state !== 'cancelled') return;
        claims.release();
        void this.#recordEnd(moveId, 'Stopped', outcome.error);
      });
      return job;
    } catch (cause) {
      this.#plans.delete(moveId);
      claims.release();
      throw ofTheSystem(cause);
    }
  }

  subscribe(listener: MoveListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  #tell({ id, subject, progress }: MoveJob, event: JobEvent): void {
    const isNews = event !== 'progress' || this.#phases.get(id) !== progress.phase;
    if (event === 'progress') this.#phases.set(id, progress.phase);
    else this.#phases.delete(id);
    for (const listener of this.#listeners) listener(id, subject, isNews);
  }

  unfinished(): readonly MoveJob[] {
    return this.#queue.unfinished();
  }

  finished(): readonly MoveJob[] {
    return this.#queue.finished();
  }

  /** Receipts of moves that ended before this host began, however they ended. */
  history(): readonly MoveReceipt[] {
    return this.#history;
  }

  of(vmId: string): MoveJob | undefined {
    return this.unfinished().find((job) => job.subject === vmId);
  }

  planOf(moveId: string): CheckedMove['plan'] | undefined {
    return this.#plans.get(moveId);
  }

  placeInLine(moveId: string): number {
    return this.#queue.placeInLine(moveId);
  }

  /** Moves without a job that still have something to do. */
  leftOver(): readonly string[] {
    return this.#later.moveIds;
  }

  /** A person has decided what the records did not: nothing of the VM's moves is left to do, and it is free. */
  async resolved(vmId: string): Promise<void> {
    for (const entry of this.#besideJournal.filter((one) => one.plan.vmId === vmId))
      this.#besideJournal.splice(this.#besideJournal.indexOf(entry), 1);
    for (const moveId of this.#awaited.of(vmId)) {
      this.#awaited.giveBack(moveId);
      this.#awaited.begin(moveId, () => Promise.reject(decided()));
    }
    const claims = this.#leftAlone.get(vmId);
    this.#leftAlone.delete(vmId);
    if (claims) await this.#giveBack(vmId, claims);
  }

  // --- recovery ----------------------------------------------------------------------------------------------------------------

  /**
   * Takes up what the ledger knows and no journal speaks for: moves without disks, beginnings that did not last, ends after the
   * journal was removed, destinations that are still to be cleaned. Of the others it makes the jobs. Before any cmdlet is served.
   */
  async start(): Promise<void> {
    this.#history = await this.receipts.latest(FINISHED_KEPT);
    const { entries, unreadable } = await this.ledger.all();
    for (const { file, cause } of unreadable)
      this.ports.log.error({ file, cause: String(cause) }, 'the record of a move cannot be read; it is left alone');
    for (const entry of entries) {
      if (this.#plans.has(entry.plan.moveId)) continue;
      // Its own journal or, for a destination still to be cleaned, a later move's: `recover` is called with it and knows.
      if (entry.plan.disks.length > 0 && (await this.ports.files.facts(this.ports.paths.journal(entry.plan.vmId))))
        this.#besideJournal.push(entry);
      else await this.#takeUpAlone(entry);
    }
    for (const entry of this.#besideJournal) {
      const newer = this.#besideJournal.some((other) => other.plan.vmId === entry.plan.vmId && other.openedAt > entry.openedAt);
      if (!newer && this.ports.registry.byId(entry.plan.vmId)) this.#awaitJournal(entry);
    }
  }

  /** Whoever asks is shown the move, and can stop it, however long its worker takes to come back. */
  #awaitJournal(entry: LedgerEntry): void {
    const { plan, state } = entry;
    const phase = state === 'open' ? 'copy' : state === 'committed' ? 'release' : 'cleanUp';
    const { moveId, vmId, vmName } = plan;
    const claims = new Claims();
    try {
      if (state === 'open') this.#claimTargets(entry, claims);
    } catch (cause) {
      this.ports.log.warn({ moveId, vmId, cause: String(cause) }, 'the paths of an interrupted move are taken');
    }
    const work = this.#awaited.expect(moveId, vmId, claims);
    this.#plans.set(moveId, plan);
    const begin: MoveWork = async (control) => {
      if (state === 'committed') control.pointOfNoReturn();
      const waiter = { vmId, vmName, ports: this.ports, control, gate: () => this.#gate() };
      return (await fromWorker(waiter, work))(control);
    };
    this.#queue.submit(moveId, vmId, freshStatus(moveId, phase), this.#recorded(moveId, begin), 'resumed');
  }

  /** In the job that is there for it already, else in a new one. */
  #resume({ moveId, vmId }: CheckedMove['plan'], phase: MovePhase, work: MoveWork): void {
    const status = freshStatus(moveId, phase);
    const begun = this.#awaited.begin(moveId, (control) => {
      control.report(status);
      return work(control);
    });
    if (!begun) this.#queue.submit(moveId, vmId, status, this.#recorded(moveId, work), 'resumed');
  }

  /**
   * For a VM whose worker cannot be asked: `recover` will not be called, so its moves end here as failed. Whoever holds the VM's claim keeps
   * it, for there is a journal.
   */
  abandon(vmId: string, cause: unknown): void {
    for (const moveId of this.#awaited.of(vmId)) this.#awaited.begin(moveId, () => Promise.reject(notTakenUp(moveId, cause)));
  }

  /**
   * For each VM that had a journal file when the host began: `journal` as its worker tells it, null when the worker knows of no move
   * (the file was not finished when the worker died). Takes the VM's claim before its first await; returns when the move is tracked again.
   */
  async recover(vm: VmRecord, journal: JournalStatus | null): Promise<void> {
    if (journal) await this.#recoverJournal(vm, journal);
    const others = this.#besideJournal.filter(
      (entry) => entry.plan.vmId === vm.configuration.id && entry.plan.moveId !== journal?.plan.moveId,
    );
    for (const entry of others) {
      this.#besideJournal.splice(this.#besideJournal.indexOf(entry), 1);
      // Beside another move's journal only cleaning can be left to do; without one, anything.
      if (!journal) {
        await this.#takeUpAlone(entry);
        continue;
      }
      this.#awaited.giveBack(entry.plan.moveId);
      if (this.#awaited.has(entry.plan.moveId)) this.#resume(entry.plan, 'cleanUp', () => Promise.reject(supplanted(entry)));
      if (entry.state === 'undoing') this.#finishLater(entry, new Claims());
    }
  }

  async #recoverJournal(vm: VmRecord, journal: JournalStatus): Promise<void> {
    const { moveId } = journal.plan;
    if (this.#plans.has(moveId) && !this.#awaited.has(moveId)) return;
    this.#plans.set(moveId, journal.plan);
    const claims = new Claims();
    try {
      claims.add(this.ports.locks.claimMove(vm.configuration.id));
      const entry = (await this.ledger.read(moveId)) ?? (await this.#makeEntry(journal));
      await this.#takeUp(entry, journal, claims);
    } catch (cause) {
      // The claim is kept: the journal is there, and no other move may begin over it.
      if (!this.#awaited.begin(moveId, () => Promise.reject(notTakenUp(moveId, cause)))) this.#plans.delete(moveId);
      throw cause;
    }
  }

  async #makeEntry(journal: JournalStatus): Promise<LedgerEntry> {
    const { moveId, vmId } = journal.plan;
    this.ports.log.warn({ moveId, vmId }, 'a journal has no record beside it; one is made from its plan');
    const entry = await entryFromJournal(journal, this.ports.files);
    const write = async (): Promise<LedgerEntry> => {
      await this.#gate();
      return this.ledger.write(entry);
    };
    return withBackOff(this.ports.clock, roomBackOff, write, isRefusedWrite);
  }

  async #takeUpAlone(entry: LedgerEntry): Promise<void> {
    const claims = new Claims();
    try {
      if (entry.state !== 'undoing') claims.add(this.ports.locks.claimMove(entry.plan.vmId));
      await this.#takeUp(entry, null, claims);
    } catch (cause) {
      claims.release();
      this.#awaited.begin(entry.plan.moveId, () => Promise.reject(notTakenUp(entry.plan.moveId, cause)));
      this.ports.log.error(
        { moveId: entry.plan.moveId, vmId: entry.plan.vmId, cause: String(cause) },
        'an interrupted move could not be taken up',
      );
    }
  }

  async #takeUp(entry: LedgerEntry, journal: JournalStatus | null, claims: Claims): Promise<void> {
    const { plan } = entry;
    let on: Continuation;
    try {
      const registry = registrySays(plan, this.ports.registry.byId(plan.vmId)?.configuration);
      const begun = await isBegun(entry, this.ports.files);
      on = continuation(entry, journal?.phase ?? null, this.ports.bootId, { registry, begun });
    } catch (cause) {
      // Contradiction: the claim is kept, so that nobody changes what a person has to look at.
      this.ports.log.error({ moveId: plan.moveId, vmId: plan.vmId, cause: String(cause) }, 'a move is left alone');
      this.#leftAlone.set(plan.vmId, claims);
      // Who looks for the move finds this one, and not the one before it.
      this.#plans.set(plan.moveId, plan);
      this.#resume(plan, 'cleanUp', () => Promise.reject(asMoveError(cause)));
      return;
    }
    this.ports.log.info({ moveId: plan.moveId, vmId: plan.vmId, from: on.from }, 'an interrupted move goes on');
    this.#plans.set(plan.moveId, plan);
    this.#awaited.giveBack(plan.moveId);
    if (on.from === 'follow') this.#claimTargets(entry, claims);
    const phase = on.from === 'release' ? 'release' : on.from === 'undo' ? 'cleanUp' : 'copy';
    this.#resume(plan, phase, (control) => this.#run(control, entry, claims, on.from, on.reason));
  }

  /** What a move that is under way keeps from others beside its VM. */
  #claimTargets({ plan, needs }: LedgerEntry, claims: Claims): void {
    const targets = plan.disks.map((disk) => disk.target);
    claims.add(this.ports.locks.claimPaths(targets, holderName(plan)));
    const wanted = needs.map(({ bytes, data = bytes, most = bytes, ...need }) => ({
      ...need,
      bytes: BigInt(bytes),
      data: BigInt(data),
      most: BigInt(most),
      returned: 0n,
    }));
    claims.add(this.#space.keep(plan.moveId, wanted));
  }

  /**
   * Nothing here begins another step from now on; the moves go on in their workers, and the next host takes them up. Those that wait in
   * line are forgotten with this host, and their clients are told.
   */
  close(): void {
    this.#closed = true;
    this.#later.close();
    this.#queue.cancelWaiting(hostStopped());
  }

  #gate(): Promise<void> {
    return this.#closed ? new Promise(() => undefined) : Promise.resolve();
  }

  // --- running -----------------------------------------------------------------------------------------------------------------

  async #plan(vmId: string, request: MoveRequest, moveId: string): Promise<Planned> {
    const { registry, bootId, clock } = this.ports;
    const vm = registry.byId(vmId);
    if (!vm)
      throw new VmStorageError('ObjectNotFound', `Hyper-V was unable to find a virtual machine with id "${vmId}".`, { target: vmId });
    return planMove({
      vm,
      request: await byTheirOwnPaths(request, vm.configuration, this.ports.files),
      moveId,
      createdAt: clock.now(),
      bootId,
      configurationFileUnder: (folder, id) => registry.configurationFileUnder(folder, id),
    });
  }

  async #look(vmId: string, request: MoveRequest, moveId: string, before: CheckedMove | null): Promise<CheckedMove | null> {
    const { plan } = await this.#plan(vmId, request, moveId);
    return plan ? checkMove(plan, this.ports, { before, requireFullSize: request.requireFullSize }) : null;
  }

  /** The move has its place. Time has passed since it was asked for: plan and check are made anew. */
  async #begin(control: MoveControl, vmId: string, request: MoveRequest, before: CheckedMove, claims: Claims): Promise<MoveReceipt> {
    const { moveId } = before.plan;
    let entry: LedgerEntry;
    try {
      control.report(freshStatus(moveId, 'check'));
      const checked = await this.#look(vmId, request, moveId, before);
      if (!checked) throw new VmStorageError('InvalidState', 'The storage of the virtual machine was moved there in the meantime.');
      for (const warning of checked.warnings) control.warn(warning);
      this.#plans.set(moveId, checked.plan);
      entry = openEntry(checked, this.ports.clock.now());
    } catch (cause) {
      await this.#giveBack(vmId, claims);
      throw onItsSource(asMoveError(cause), before.plan);
    }
    return this.#run(control, entry, claims, 'prepare');
  }

  async #run(control: MoveControl, entry: LedgerEntry, claims: Claims, from: EntryPoint, reason?: VmStorageError): Promise<MoveReceipt> {
    const scene = this.#scene(control, entry, from);
    try {
      const receipt = await runMove(scene, from, reason);
      for (const kept of scene.kept) sayKept(control, kept);
      scene.tracker.end(completed(scene.kept));
      await this.#giveBack(entry.plan.vmId, claims);
      return receipt;
    } catch (cause) {
      const error = asMoveError(cause);
      scene.tracker.end({ ok: false, ...failureOf(error, entry.plan) });
      if (error instanceof UnfinishedMove) {
        // A VM whose destination is only to be cleaned is free again; one between two configurations is not.
        if (error.left === 'cleanUp') await this.#giveBack(entry.plan.vmId, claims);
        this.#finishLater(scene.entry, claims);
      } else {
        await this.#giveBack(entry.plan.vmId, claims);
      }
      throw error;
    }
  }

  /** What became of a move is on disk before anybody is told. */
  #recorded(moveId: string, work: MoveWork): MoveWork {
    return async (control) => {
      const diary = new Diary(moveId, this.ports, () => ({ plan: this.#plans.get(moveId), status: this.#queue.find(moveId)?.progress }));
      diary.begins();
      try {
        const receipt = await work(control);
        diary.ends('Completed', null);
        return receipt;
      } catch (cause) {
        const error = asMoveError(cause);
        const end = error.code === 'OperationStopped' && control.stop.aborted ? 'Stopped' : 'Failed';
        diary.ends(end, error);
        await this.#recordEnd(moveId, end, error);
        throw cause;
      }
    };
  }

  async #recordEnd(moveId: string, end: MoveEnd, error: VmStorageError): Promise<void> {
    const [plan, job] = [this.#plans.get(moveId), this.#queue.find(moveId)];
    if (this.#closed || !plan || !job) return;
    const failure = failureOf(error, plan);
    const status: MoveStatus = { ...job.progress, bytesPerSecond: 0, secondsRemaining: null, outcome: { ok: false, ...failure } };
    try {
      await this.receipts.saveFailure(plan, status, end, failure, this.ports.clock.now());
    } catch (cause) {
      this.ports.log.warn({ moveId, reason: asMoveError(cause).message }, 'the end of a move could not be recorded');
    }
  }

  #scene(control: MoveControl, entry: LedgerEntry, from: EntryPoint): Scene {
    const phase = from === 'release' ? 'release' : from === 'follow' ? 'copy' : 'prepare';
    const gate = (): Promise<void> => this.#gate();
    return new Scene(this.ports, this.ledger, this.receipts, control, entry, phase, gate, from !== 'prepare', this.#lingering);
  }

  #finishLater(entry: LedgerEntry, claims: Claims): void {
    const { moveId, vmId } = entry.plan;
    const attempt = async (): Promise<boolean> => {
      const now = await this.ledger.read(moveId);
      if (!now) return true;
      const scene = this.#scene(inQuiet(this.ports.log, moveId), now, now.state === 'committed' ? 'release' : 'undo');
      if (now.state !== 'committed') {
        const outcome = await undo(scene, now.reason ?? 'It was interrupted.');
        if (outcome !== 'committed') return outcome === 'undone';
      }
      await release(scene, { firstMs: 100, mostMs: 100, attempts: 1 });
      return true;
    };
    this.#later.add(moveId, attempt, () => void this.#giveBack(vmId, claims));
  }

  async #giveBack(vmId: string, claims: Claims): Promise<void> {
    if (!claims.release()) return;
    try {
      await this.ports.workers.release(vmId);
    } catch (cause) {
      this.ports.log.warn({ vmId, cause: String(cause) }, 'a worker that is not needed any more could not be ended');
    }
  }

  #forgetOldPlans(): void {
    const known = new Set([...this.unfinished(), ...this.finished()].map((job) => job.id));
    for (const moveId of [...this.#plans.keys()]) if (!known.has(moveId)) this.#plans.delete(moveId);
  }
}

function sayKept(control: MoveControl, kept: { readonly path: string; readonly reason: string }): void {
  const text = keptText(kept);
  if (kept.reason === RETAINED) control.say(text);
  else control.warn(text);
}

function openEntry(checked: CheckedMove, now: Date): LedgerEntry {
  return {
    schema: 2,
    state: 'open',
    plan: checked.plan,
    openedAt: now.toISOString(),
    sources: checked.sources,
    targets: checked.targets.map((target) => ({ ...target, identity: null })),
    configuration: checked.configuration,
    needs: checked.needs.map(({ target, device, folder, bytes, data, most }) => ({
      ...{ target, device, folder },
      ...{ bytes: String(bytes), data: String(data), most: String(most) },
    })),
    reason: null,
  };
}

function supplanted({ reason }: LedgerEntry): VmStorageError {
  return new VmStorageError('OperationFailed', reason ?? 'The move was interrupted, and another move of the virtual machine is under way.');
}

function decided(): VmStorageError {
  return new VmStorageError(
    'OperationStopped',
    'The records of the move contradicted each other, and Resolve-VMStorageMove has said which files are the disks.',
  );
}

function hostStopped(): VmStorageError {
  return new VmStorageError(
    'OperationStopped',
    'The host was stopped before the move had its place. Nothing was begun, and nothing was changed.',
    { recommendedAction: 'Ask for the move again once the host runs: it is not remembered.' },
  );
}

/** Its claim is held and no job is at it: its records are undecided, its worker cannot be asked, or its end is still to be written. */
function notOver(vm: VmRecord): VmStorageError {
  const { name } = vm.configuration;
  return new VmStorageError('ObjectInUse', `An earlier move of the storage of the virtual machine "${name}" is not over.`, {
    target: name,
    recommendedAction:
      'Get-VM shows why. Where the records of the move contradict each other, Resolve-VMStorageMove decides; else it ends by itself.',
  });
}

function alreadyMoving(vm: VmRecord): VmStorageError {
  return new VmStorageError('ObjectInUse', `The storage of the virtual machine "${vm.configuration.name}" is being moved already.`, {
    target: vm.configuration.name,
    recommendedAction: 'Get-VMStorageMove shows the move; Stop-VMStorageMove stops it.',
  });
}
