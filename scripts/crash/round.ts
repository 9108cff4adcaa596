/**
 * One life of one machine: made, started, struck again and again, stopped, compared byte by byte, moved once more in peace, compared again,
 * and gone without a trace.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { guestReportFile } from '../../src/hypervisor/built-in.js';
import type { NativeGuestReport } from '../../src/native/binding.js';
import { markedProcesses } from '../../test/support/leftovers.js';
import { compare } from './compare.js';
import { CrashInstance, GuestFailure, Stuck, VM_NAME, other, until, type Side } from './instance.js';
import { panicsIn } from './panics.js';
import type { Shape } from './shapes.js';
import { checkOneSide, guestGoesOn, strike, type Strike, type Struck } from './strike.js';

/** Between the end of a process and its sockets being gone. */
const GONE_LIMIT_MS = 30_000;

export interface RoundResult {
  readonly struck: readonly { readonly strike: Strike; readonly result: Struck }[];
  readonly blocksChecked: number;
  readonly lostBytes: number;
  readonly guestErrors: number;
  readonly stuck: number;
  /** Deaths of workers that left requests in flight in each of several queues of a disk. */
  readonly killedInAllQueues: number;
  readonly problems: readonly string[];
  /** Kept for looking at when there are problems. */
  readonly folder: string;
}

export interface RoundOptions {
  readonly shape: Shape;
  readonly load: object;
  /** Gives the next strike, or null when this machine has had enough. */
  readonly next: (struck: readonly Struck[]) => Strike | null;
  readonly restartDelayMs: () => number;
  readonly say: (text: string) => void;
  /** Instances that live now, for whoever has to end them when the run is broken off. */
  readonly living: Set<CrashInstance>;
  /** Where its folder is made. */
  readonly folder: string;
}

export async function playRound(options: RoundOptions): Promise<RoundResult> {
  const instance = new CrashInstance(options.shape, options.load, options.folder);
  options.living.add(instance);
  const struck: { strike: Strike; result: Struck }[] = [];
  const problems: string[] = [];
  const figures = { blocksChecked: 0, lostBytes: 0, guestErrors: 0, stuck: 0, killedInAllQueues: 0 };
  try {
    instance.startHost();
    await instance.reachable();
    await instance.makeMachine();
    await guestGoesOn(instance);
    let side: Side = 'a';
    for (let how = options.next([]); how !== null; how = options.next(struck.map(({ result }) => result))) {
      instance.restartDelayMs = options.restartDelayMs();
      const result = await strike(instance, side, how);
      struck.push({ strike: how, result });
      options.say(`  ${told(how, result)}`);
      if (result.moved) side = other(side);
    }
    await stopGuest(instance, figures, problems);
    await judge(instance, side);
    await instance.ask('Move-VMStorage', { Name: VM_NAME, DestinationStoragePath: instance.place(other(side)) }, 'NameSingleDestination');
    side = other(side);
    if ((await instance.side()) !== side) throw new Error('the second move was a success, but the machine is where it was');
    await checkOneSide(instance, side);
    await judge(instance, side);
    await nothingLeft(instance, side);
  } catch (error) {
    if (error instanceof Stuck) figures.stuck++;
    if (error instanceof GuestFailure) figures.guestErrors++;
    problems.push(error instanceof Error ? (error instanceof TypeError ? (error.stack ?? error.message) : error.message) : String(error));
  } finally {
    const left = await instance.end();
    options.living.delete(instance);
    // After a failure the guest is still running; after a round that was played to its end nothing may be.
    if (problems.length === 0) problems.push(...left.map((what) => `left behind: ${what}`));
    problems.push(...panicsIn(instance.paths.logsFolder));
    if (problems.length === 0) instance.remove();
  }
  return { struck, ...figures, problems, folder: instance.folder };

  async function judge(of: CrashInstance, side: Side): Promise<void> {
    const comparison = await compare(of, side);
    figures.blocksChecked += comparison.blocksChecked;
    figures.lostBytes += comparison.lostBytes;
    problems.push(...comparison.findings);
  }
}

/** The guest reads everything back before it ends; what it says at the end counts. */
async function stopGuest(
  instance: CrashInstance,
  figures: { guestErrors: number; stuck: number; killedInAllQueues: number },
  problems: string[],
): Promise<void> {
  await instance.ask('Stop-VM', { Name: [VM_NAME] });
  const file = guestReportFile(instance.vmLogFolder);
  await until("the guest's report", GONE_LIMIT_MS, () => (existsSync(file) ? true : undefined));
  const report = JSON.parse(readFileSync(file, 'utf8')) as NativeGuestReport;
  figures.guestErrors += report.disks.reduce((sum, disk) => sum + disk.ioErrors + disk.wrongBlocks + disk.unexpectedCompletions, 0);
  figures.stuck += report.stuck;
  if (instance.shape.processors > 1) figures.killedInAllQueues += report.disks.reduce((sum, disk) => sum + disk.brokenInAllRings, 0);
  if (!report.clean) problems.push(`the guest was not content: ${JSON.stringify(report)}`);
}

/** The machine is off and does not move: no process but the host, no socket but the host's, no record. */
async function nothingLeft(instance: CrashInstance, side: Side): Promise<void> {
  const processes = (): number[] => markedProcesses(instance.home, [process.pid, instance.hostPid ?? 0], 'VMSTORAGE_HOME');
  await until(`no process but the host is left (${processes().join(', ')})`, GONE_LIMIT_MS, () =>
    processes().length === 0 ? true : undefined,
  );
  const run = readdirSync(instance.paths.runFolder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => entry.name);
  if (run.length > 0) throw new Error(`left in the run folder: ${run.join(', ')}`);
  if (instance.moveRecords().length > 0) throw new Error(`left in the state folder: ${instance.moveRecords().join(', ')}`);
  await instance.cmdlet('Remove-VM', { Name: [VM_NAME], Force: true });
  if (instance.filesAt(side).length !== 2) throw new Error(`after Remove-VM there are ${instance.filesAt(side).join(', ')}`);
}

export function told(how: Strike, { points, phase, moved, message }: Struck): string {
  const what =
    how.kind === 'points'
      ? `${how.points.map((point) => point.name).join(' then ')}${points.length === how.points.length ? '' : `, hit only ${points.join(', ') || 'none'}`}`
      : phase === null
        ? `kill -9 of ${how.victim} came too late`
        : `kill -9 of ${how.victim} in ${phase}`;
  return `${what}: ${moved ? 'moved' : 'rolled back'}${message === '' ? '' : ` (${message})`}`;
}
