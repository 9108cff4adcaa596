/**
 * One move that is struck: by self-kill at named points, or by kill -9 at a random moment. However it is struck, it ends with the machine
 * at one side, whole, its guest going on, and nothing of ours at the other side.
 */
import { invoke } from '../../src/client/invoke.js';
import { VmStorageError } from '../../src/model/errors.js';
import { GuestFailure, Stuck, VM_NAME, isAway, other, sleep, until, type CrashInstance, type Side } from './instance.js';
import type { KillPoint } from './points.js';
import { watchTogether } from './together.js';

export type Victim = 'worker' | 'host' | 'both';

export type Strike =
  | { readonly kind: 'points'; readonly points: readonly KillPoint[] }
  | { readonly kind: 'random'; readonly victim: Victim; readonly phase: string; readonly delayMs: number };

export interface Struck {
  readonly points: readonly string[];
  /** Of a random kill that fell into the move: the phase it fell into. */
  readonly phase: string | null;
  readonly moved: boolean;
  /** Of a move struck around its switch: how often all disks were seen at the side they left, and at the one they went to. */
  readonly together: { readonly before: number; readonly after: number } | null;
  readonly message: string;
}

/** From the last kill to the end of the move, and to a guest that goes on. */
const SETTLE_LIMIT_MS = 120_000;
/** Phases in their order, as a client sees them. */
const phases = ['queued', 'plan', 'check', 'prepare', 'copy', 'mirror', 'verify', 'synchronized', 'switch', 'release', 'cleanUp'];
export const randomPhases = ['copy', 'copy', 'mirror', 'verify', 'verify', 'switch', 'release'] as const;

class RunningMove {
  phase = 'queued';
  ended = false;
  failure: VmStorageError | Error | null = null;
  readonly end: Promise<void>;

  constructor(instance: CrashInstance, target: Side) {
    const record = { parameterSet: 'NameSingleDestination', bound: { Name: VM_NAME, DestinationStoragePath: instance.place(target) } };
    this.end = invoke(
      { cmdlet: 'Move-VMStorage', records: [record], address: instance.paths.hostSocket, client: 'crash', prefs: { progress: true } },
      {
        output: () => undefined,
        text: () => undefined,
        ask: () => true,
        error: (error) => void (this.failure ??= error),
        progress: ({ data }) => {
          const phase = (data as { phase?: unknown } | undefined)?.phase;
          if (typeof phase === 'string') this.phase = phase;
        },
      },
    )
      .catch((error: unknown) => void (this.failure ??= error instanceof Error ? error : new Error(String(error))))
      .finally(() => (this.ended = true));
  }

  /** It went on to this phase, or ended before. */
  async reaches(phase: string): Promise<boolean> {
    await until(`the move reaches ${phase}`, SETTLE_LIMIT_MS, () =>
      this.ended || phases.indexOf(this.phase) >= phases.indexOf(phase) ? true : undefined,
    );
    return !this.ended;
  }
}

export async function strike(instance: CrashInstance, from: Side, how: Strike): Promise<Struck> {
  const armed = how.kind === 'points' ? how.points.map((point) => point.name) : [];
  if (armed.length > 0) instance.arm(armed);
  const together = how.kind === 'points' && how.points.some((point) => point.phase === 'switch') ? watchTogether(instance) : null;
  const move = new RunningMove(instance, other(from));
  let phase: string | null = null;
  if (how.kind === 'random') phase = await killAtRandom(instance, move, how);
  else if (how.points.some((point) => point.ofStop)) await stopMove(instance, move);
  try {
    await until('the move ends', SETTLE_LIMIT_MS, () => (move.ended ? true : undefined));
    await settled(instance);
  } finally {
    await together?.end();
  }
  const points = instance.disarm();
  const side = await instance.side();
  const moved = side !== from;
  if (move.failure === null && !moved) throw new Error('Move-VMStorage reported success, but the machine is where it was');
  const mayRollBack = how.kind === 'points' && how.points.some((point) => point.ofStop ?? point.ends);
  if (!moved && !mayRollBack) throw new Error(`a move that nobody stopped was rolled back: ${move.failure?.message ?? 'without a reason'}`);
  await checkOneSide(instance, side);
  await guestGoesOn(instance);
  return {
    points,
    phase,
    moved,
    together: together && { before: together.seen[from], after: together.seen[other(from)] },
    // A client whose host was killed knows no more; how it ended was seen above.
    message: move.failure === null || isAway(move.failure) ? '' : move.failure.message,
  };
}

async function killAtRandom(instance: CrashInstance, move: RunningMove, how: Strike & { kind: 'random' }): Promise<string | null> {
  if (!(await move.reaches(how.phase))) return null;
  await sleep(how.delayMs);
  const phase = move.phase;
  const victims = [how.victim !== 'host' ? instance.workerPid() : null, how.victim !== 'worker' ? instance.hostPid : null];
  // The last look: a kill after the end would be a kill at rest.
  if (move.ended || instance.moveRecords().length === 0) return null;
  for (const pid of victims) if (pid !== null) killNow(pid);
  return phase;
}

function killNow(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** As soon as it copies; a host that dies meanwhile answers nothing, which is what is tested. */
async function stopMove(instance: CrashInstance, move: RunningMove): Promise<void> {
  if (!(await move.reaches('copy'))) return;
  await instance.cmdlet('Stop-VMStorageMove', { Name: [VM_NAME] }).catch((error: unknown) => {
    if (!isAway(error) && !(error instanceof VmStorageError)) throw error;
  });
}

/** Host there, nothing of any move left on its to-do list. */
async function settled(instance: CrashInstance): Promise<void> {
  try {
    await until('no record of a move is left', SETTLE_LIMIT_MS, async () => {
      if (instance.moveRecords().length > 0) return undefined;
      await instance.reachable();
      // The records are gone a moment before the host is done with the move, and until then the next one is refused.
      const { output } = await instance.ask('Get-VMStorageMove', { Name: [VM_NAME], Active: true });
      return output.length === 0 && instance.moveRecords().length === 0 ? true : undefined;
    });
  } catch (error) {
    if (!(error instanceof Stuck)) throw error;
    const [vm] = await instance.ask('Get-VM', { Name: [VM_NAME] }).then(
      ({ output }) => output,
      () => [],
    );
    throw new Stuck(
      `${error.message}; there are ${instance.moveRecords().join(', ')}; the machine's status is "${String(vm?.['Status'])}"`,
    );
  }
}

/** All of the machine is at `side`, and nothing of ours at the other, not even an open file. */
export async function checkOneSide(instance: CrashInstance, side: Side): Promise<void> {
  const left = instance.filesAt(other(side));
  if (left.length > 0) throw new Error(`left at the losing side: ${left.join(', ')}`);
  const there = instance.filesAt(side);
  const wanted = [...instance.shape.disks.map((disk) => instance.image(side, disk))];
  const missing = wanted.filter((path) => !there.includes(path));
  if (missing.length > 0) throw new Error(`missing: ${missing.join(', ')}`);
  const more = there.filter((path) => !wanted.includes(path) && !path.endsWith(`/Virtual Machines/${instance.vmId}.vmcx`));
  if (more.length > 0) throw new Error(`left beside the machine's files: ${more.join(', ')}`);
  // A worker that was just restarted may still be closing what it looked at.
  await until(`no file of the losing side is open (${instance.openAt(other(side)).join(', ')})`, 30_000, () =>
    instance.openAt(other(side)).length === 0 ? true : undefined,
  );
}

/** Every disk is connected and completes requests, none has failed. */
export async function guestGoesOn(instance: CrashInstance): Promise<void> {
  const before = await instance.guest();
  let now = before;
  try {
    await until('the guest goes on', SETTLE_LIMIT_MS, async () => {
      now = await instance.guest();
      return now.every((disk, i) => disk.connected && disk.reads + disk.writes > before[i]!.reads + before[i]!.writes + 16) || undefined;
    });
  } catch (error) {
    if (!(error instanceof Stuck)) throw error;
    throw new Stuck(`${error.message}: ${JSON.stringify(now)}`);
  }
  const bad = now.find((disk) => disk.ioErrors + disk.wrongBlocks + disk.unexpectedCompletions > 0);
  if (bad)
    throw new GuestFailure(
      `the guest saw ${bad.ioErrors} errors, ${bad.wrongBlocks} wrong blocks, ${bad.unexpectedCompletions} unexpected completions: ${bad.firstWrong ?? ''}`,
    );
}
