/**
 * One interleaved run: in each round every case, in each case every side, in an order drawn anew each time, so that neither side always
 * finds what the other left behind.
 */
import type { Bench, Case } from './cases/case.js';
import { type Figures, isAsked, makeRow, type Round, type Row } from './document.js';

export interface Step {
  readonly round: number;
  readonly name: string;
  readonly run: string;
}

export function shuffled<T>(items: readonly T[]): T[] {
  const left = [...items];
  const drawn: T[] = [];
  while (left.length > 0) drawn.push(...left.splice(Math.floor(Math.random() * left.length), 1));
  return drawn;
}

/** Only the runs that the rows asked for come from. */
export async function runRounds(cases: readonly Case[], bench: Bench, only: string | null, told: (step: Step) => void): Promise<Row[]> {
  const asked = cases
    .map((one) => ({ ...one, rows: one.rows.filter(({ name }) => isAsked(name, only)) }))
    .filter(({ rows }) => rows.length > 0);
  const measured = asked.map((): Round[] => []);
  for (let round = 0; round < bench.rounds; round++) {
    for (const [index, { rows, runs }] of asked.entries()) {
      const needed = new Set(rows.flatMap(({ ours, peer }) => [ours[0], peer[0]]));
      const figures: Record<string, Figures> = {};
      for (const [name, run] of shuffled(Object.entries(runs).filter(([name]) => needed.has(name)))) {
        told({ round, name: rows[0]!.name, run: name });
        figures[name] = await run(bench);
      }
      measured[index]!.push(figures);
    }
  }
  return asked.flatMap(({ rows }, index) => rows.map((plan) => makeRow(plan, measured[index]!)));
}
