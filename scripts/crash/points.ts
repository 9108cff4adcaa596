/**
 * The named points at which worker and host kill themselves, in the order in which a move passes them, and how often each is owed.
 *
 * ```text
 * host:opened ─ host:folders ─ host:prepared ─ after:started ─ target:created ─ targets ─ host:started ─ host:targets ─ copy ─ mirror
 *   ─ verify ─ prepared ─ committed (in it: before:witness) ─ host:committed ─ host:receipt ─ host:configuration ─ host:registry ─ released
 *   ─ host:released ─ host:sourceChecked ─ host:source ─ host:oldConfiguration ─ before:end ─ after:end ─ host:journal ─ host:ledger
 * a stop:    before:cancelled ─ after:cancelled ─ host:stopped ─ host:undoing ─ host:cleaned ─ before:end ... ─ host:undone
 * a resume:  before:resumed ─ after:resumed, after any kill of the worker before COMMITTED
 * ```
 */
export interface KillPoint {
  readonly name: string;
  /** Where in the move it is, for the report. */
  readonly phase: string;
  /** Only passed by a move that is stopped. */
  readonly ofStop?: true;
  /** Only passed by a worker that takes a move up again: another has to die first. */
  readonly ofResume?: true;
  /** The host dies before there is anything to resume: the move is rolled back and passes no later point. */
  readonly ends?: true;
  /** One of the journal's records or of the host's durable steps that the order of a move depends on. */
  readonly core: boolean;
}

const core = (name: string, phase: string): KillPoint => ({ name, phase, core: true });
const further = (name: string, phase: string): KillPoint => ({ name, phase, core: false });
const around = (record: string, phase: string): KillPoint[] => [core(`before:${record}`, phase), core(`after:${record}`, phase)];

export const points: readonly KillPoint[] = [
  { ...further('host:opened', 'prepare'), ends: true },
  { ...further('host:folders', 'prepare'), ends: true },
  { ...further('host:prepared', 'prepare'), ends: true },
  core('after:started', 'start'),
  further('target:created', 'start'),
  core('targets', 'start'),
  further('host:started', 'start'),
  further('host:targets', 'start'),
  ...around('copy', 'copy'),
  ...around('mirror', 'mirror'),
  ...around('verify', 'verify'),
  ...around('prepared', 'switch'),
  core('before:committed', 'switch'),
  core('before:witness', 'switch'),
  core('after:committed', 'switch'),
  further('host:committed', 'switch'),
  further('host:receipt', 'release'),
  core('host:configuration', 'release'),
  core('host:registry', 'release'),
  ...around('released', 'release'),
  further('host:released', 'release'),
  further('host:sourceChecked', 'delete'),
  core('host:source', 'delete'),
  further('host:oldConfiguration', 'delete'),
  ...around('end', 'delete'),
  core('host:journal', 'delete'),
  further('host:ledger', 'delete'),
  ...around('cancelled', 'stop').map((point) => ({ ...point, ofStop: true as const })),
  ...['host:stopped', 'host:undoing', 'host:cleaned', 'host:undone'].map((name) => ({ ...further(name, 'stop'), ofStop: true as const })),
  ...['before:resumed', 'after:resumed'].map((name) => ({ ...further(name, 'resume'), ofResume: true as const })),
];

/** A full run: 3 times each core point, the others once; a shorter one is a sample with less of each. */
export const FULL_RUN_KILLS = 100;

export interface Owed {
  readonly point: KillPoint;
  readonly times: number;
}

/** What a run of `kills` owes: all of it fits, and the rest are kills at random moments. `only`: these points, once each. */
export function owedPoints(kills: number, only: readonly string[] = []): readonly Owed[] {
  if (only.length > 0) {
    return only.map((name) => {
      const point = points.find((one) => one.name === name);
      if (!point) throw new Error(`there is no kill point "${name}"; there are ${points.map((one) => one.name).join(', ')}`);
      return { point, times: 1 };
    });
  }
  if (kills >= FULL_RUN_KILLS) return points.map((point) => ({ point, times: point.core ? 3 : 1 }));
  return points.filter((point) => point.core && kills >= FULL_RUN_KILLS / 3).map((point) => ({ point, times: 1 }));
}
