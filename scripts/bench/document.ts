/** What `npm run bench -- --json` prints, and how it is made of the rounds. Pure. */
import type { Machine } from './machine.js';
import { pairedRatio, spread, type Spread } from './statistics.js';

export interface Row {
  readonly name: string;
  readonly unit: string;
  readonly better: 'higher' | 'lower';
  readonly ours: Spread;
  readonly peer: Spread & { readonly name: string };
  /** ours / peer, the median over the rounds: above 1 is good where higher is better. */
  readonly ratio: number;
  readonly ratioSpread: Spread;
}

export interface BenchDocument {
  readonly machine: Machine;
  readonly rows: readonly Row[];
}

/** What one run measured, by figure. */
export type Figures = Readonly<Record<string, number>>;
/** One round: every run's figures, by run. */
export type Round = Readonly<Record<string, Figures>>;

/** Where a row's two figures come from: [run, figure]. */
export interface RowPlan {
  readonly name: string;
  readonly unit: string;
  readonly better: 'higher' | 'lower';
  readonly ours: readonly [run: string, figure: string];
  readonly peer: readonly [run: string, figure: string];
  readonly peerName: string;
}

export function makeRow(plan: RowPlan, rounds: readonly Round[]): Row {
  const figures = ([run, figure]: readonly [string, string]): number[] =>
    rounds.map((round) => {
      const value = round[run]?.[figure];
      if (value === undefined) throw new Error(`${plan.name}: '${run}' did not measure '${figure}'.`);
      return value;
    });
  const [ours, peer] = [figures(plan.ours), figures(plan.peer)];
  const ratio = pairedRatio(ours, peer);
  return {
    ...{ name: plan.name, unit: plan.unit, better: plan.better },
    ours: spread(ours),
    peer: { name: plan.peerName, ...spread(peer) },
    ratio: ratio.median,
    ratioSpread: ratio,
  };
}

/** True when `only` asks for this row: its name, or the name of its family (`vhost-4k` of `vhost-4k-read-qd1`). */
export const isAsked = (name: string, only: string | null): boolean => only === null || name === only || name.startsWith(`${only}-`);
