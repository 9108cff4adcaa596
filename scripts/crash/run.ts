/** Many rounds: hands out strikes until every named point was hit as often as it is owed and there were as many kills as asked. */
import { tmpdir } from 'node:os';
import type { CrashInstance } from './instance.js';
import { Random } from './random.js';
import { owedPoints, points, type KillPoint } from './points.js';
import { playRound, type RoundResult } from './round.js';
import { shapes } from './shapes.js';
import { randomPhases, type Strike, type Struck, type Victim } from './strike.js';

export interface CrashOptions {
  readonly kills: number;
  readonly seed: number;
  /** Only these points, once each, beside the random kills. Default: as points.ts says. */
  readonly only?: readonly string[];
  readonly killsPerRound?: number;
  /** Machines in turn have these; default: all of shapes.ts. */
  readonly shapes?: readonly string[];
  readonly load?: object;
  readonly say?: (text: string) => void;
  readonly living?: Set<CrashInstance>;
  /** Where each machine gets its folder. Default: the folder for temporary files. */
  readonly folder?: string;
}

export interface CrashReport {
  readonly ok: boolean;
  readonly seed: number;
  readonly kills: number;
  readonly byPhase: { readonly [phase: string]: number };
  readonly byPoint: { readonly [point: string]: number };
  readonly lostBytes: number;
  readonly guestErrors: number;
  readonly stuck: number;
  readonly rounds: number;
  /** Rounds by the shape of their machine. */
  readonly byShape: { readonly [shape: string]: number };
  /** Deaths of workers, by disk, that left requests in flight in every queue of it. */
  readonly killedInAllQueues: number;
  /** Moves that were struck and got to their end, and those that were rolled back. */
  readonly moved: number;
  readonly rolledBack: number;
  readonly blocksChecked: number;
  readonly seconds: number;
  readonly problems: readonly string[];
}

/** A machine is struck this often before it is stopped and compared: its supervisor waits longer after each death of a worker. */
const KILLS_PER_ROUND = 10;
/** QD 32, half of the requests into 256 KiB so that many overlap, 5 % discards and write-zeroes. */
const LOAD = { queueDepth: 32, hotPercent: 50, hotBytes: 256 * 1024, writePercent: 60, zeroPercent: 5, flushEvery: 32 };
/** A strike that came too late is repeated; a run in which this many per wanted kill do not hit has something wrong with it. */
const STRIKES_PER_KILL = 4;
/** Rounds with a problem after which there is no need for more. */
const FAILED_ROUNDS_MOST = 3;
const RANDOM_DELAY_MAX_MS = 400;
const RESTART_DELAY_MAX_MS = 300;

export async function crash(options: CrashOptions): Promise<CrashReport> {
  const started = performance.now();
  const random = new Random(options.seed);
  const say = options.say ?? ((): void => undefined);
  const owed = new Map(owedPoints(options.kills, options.only).map(({ point, times }) => [point.name, times]));
  const counts = {
    byPhase: {} as Record<string, number>,
    byPoint: {} as Record<string, number>,
    kills: 0,
    strikes: 0,
    moved: 0,
    rolledBack: 0,
  };
  for (const name of owed.keys()) counts.byPoint[name] = 0;
  const sums = { lostBytes: 0, guestErrors: 0, stuck: 0, blocksChecked: 0, killedInAllQueues: 0 };
  const chosen = shapes.filter(({ name }) => options.shapes?.includes(name) ?? true);
  const byShape: Record<string, number> = {};
  const problems: string[] = [];
  const missing = (): KillPoint[] => points.filter(({ name }) => (counts.byPoint[name] ?? 0) < (owed.get(name) ?? 0));
  const finished = (): boolean => counts.kills >= options.kills && missing().length === 0;
  const count = (result: Struck): void => {
    for (const name of result.points) {
      counts.byPoint[name] = (counts.byPoint[name] ?? 0) + 1;
      const phase = points.find((point) => point.name === name)?.phase ?? 'unknown';
      counts.byPhase[phase] = (counts.byPhase[phase] ?? 0) + 1;
    }
    if (result.phase !== null) counts.byPhase[result.phase] = (counts.byPhase[result.phase] ?? 0) + 1;
    const kills = result.points.length + (result.phase === null ? 0 : 1);
    counts.kills += kills;
    if (kills > 0) counts[result.moved ? 'moved' : 'rolledBack']++;
  };
  let [rounds, failed] = [0, 0];
  while (!finished() && failed < FAILED_ROUNDS_MOST && counts.strikes < STRIKES_PER_KILL * options.kills) {
    const shape = chosen[rounds % chosen.length]!;
    rounds++;
    byShape[shape.name] = (byShape[shape.name] ?? 0) + 1;
    say(`round ${rounds}, machine '${shape.name}': ${counts.kills} kills so far`);
    let counted = 0;
    let killsHere = 0;
    const result: RoundResult = await playRound({
      shape,
      load: { ...LOAD, ...options.load, seed: random.below(2 ** 31) },
      say,
      living: options.living ?? new Set(),
      folder: options.folder ?? tmpdir(),
      restartDelayMs: () => random.below(RESTART_DELAY_MAX_MS),
      next: (struck) => {
        for (; counted < struck.length; counted++) {
          count(struck[counted]!);
          killsHere += struck[counted]!.points.length + (struck[counted]!.phase === null ? 0 : 1);
        }
        if (finished() || killsHere >= (options.killsPerRound ?? KILLS_PER_ROUND) || counts.strikes >= STRIKES_PER_KILL * options.kills)
          return null;
        counts.strikes++;
        return nextStrike(random, missing(), options.kills - counts.kills);
      },
    });
    for (const sum of ['lostBytes', 'guestErrors', 'stuck', 'blocksChecked', 'killedInAllQueues'] as const) sums[sum] += result[sum];
    if (result.problems.length > 0) {
      failed++;
      const last = result.struck.at(-1);
      problems.push(
        ...result.problems.map(
          (text) =>
            `round ${rounds} (after ${result.struck.length} strikes${last ? `, the last: ${JSON.stringify(last.strike)}` : ''}): ${text}; kept in ${result.folder}`,
        ),
      );
      for (const problem of problems.slice(-result.problems.length)) say(`  PROBLEM: ${problem}`);
    }
  }
  for (const { name } of missing()) problems.push(`${name} was hit ${counts.byPoint[name] ?? 0} of ${owed.get(name)} times`);
  if (counts.kills < options.kills) problems.push(`${counts.kills} of ${options.kills} kills were done`);
  const { kills, byPhase, byPoint, moved, rolledBack } = counts;
  return {
    ok: problems.length === 0 && sums.lostBytes + sums.guestErrors + sums.stuck === 0,
    seed: options.seed,
    kills,
    byPhase,
    byPoint,
    lostBytes: sums.lostBytes,
    guestErrors: sums.guestErrors,
    stuck: sums.stuck,
    rounds,
    byShape,
    killedInAllQueues: sums.killedInAllQueues,
    moved,
    rolledBack,
    blocksChecked: sums.blocksChecked,
    seconds: Math.round((performance.now() - started) / 100) / 10,
    problems,
  };
}

/** A named point that is owed, as likely as a random kill; often two of them in one move, the second in what takes it up again. */
function nextStrike(random: Random, missing: readonly KillPoint[], killsLeft: number): Strike {
  const owedMuch = missing.length > 0 && random.below(Math.max(killsLeft, missing.length) + 1) <= missing.length * 2;
  if (!owedMuch) {
    return {
      kind: 'random',
      victim: random.pick<Victim>(['worker', 'worker', 'host', 'both']),
      phase: random.pick(randomPhases),
      delayMs: random.below(2) === 0 ? 0 : random.below(RANDOM_DELAY_MAX_MS),
    };
  }
  const point = random.pick(missing);
  if (point.ofResume) return { kind: 'points', points: [first(random), point] };
  if (point.ends || random.below(3) > 0) return { kind: 'points', points: [point] };
  // Points are listed in the order in which a move passes them.
  const later = missing.filter(
    (other) => !other.ofResume && other.ofStop === point.ofStop && points.indexOf(other) > points.indexOf(point),
  );
  return { kind: 'points', points: later.length === 0 ? [point] : [point, random.pick(later)] };
}

/** A worker's death after which its successor resumes. */
function first(random: Random): KillPoint {
  const names = ['after:started', 'targets', 'after:copy', 'before:mirror', 'after:verify', 'after:prepared'];
  const name = random.pick(names);
  return points.find((point) => point.name === name)!;
}
