/**
 * This checkout beside another one of this project, in one interleaved run: each round runs the benchmark of both, one round each, in an
 * order drawn anew. Of both only our own side counts, so what changed between the two shows, and what changed on the machine does not.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { shuffled } from './rounds.js';
import { type BenchDocument, makeRow, type Round, type Row, type RowPlan } from './document.js';
import type { Settings } from './machine.js';

export type Checkout = 'this' | 'other';

/** Runs the benchmark of the checkout in `root` with these words and resolves with what it printed on standard output. */
export type RunBench = (root: string, words: readonly string[]) => Promise<string>;

/** Why the folder cannot be measured against, or null. */
export function whyNoCheckout(folder: string): string | null {
  const description = join(folder, 'package.json');
  if (!existsSync(description) || (JSON.parse(readFileSync(description, 'utf8')) as { name?: unknown }).name !== 'vmstorage')
    return 'it holds no checkout of vmstorage';
  return existsSync(join(folder, 'dist/scripts/bench.js')) ? null : 'it is not built; run npm run build in it';
}

/**
 * Rows that only one of the two has are left out: there is nothing to compare. Rejects when a run fails or a row is missing in a later round.
 */
export async function measureAgainst(
  roots: Readonly<Record<Checkout, string>>,
  { rounds, sizeMiB, windowSeconds }: Settings,
  only: string | null,
  run: RunBench,
  told: (round: number, root: string) => void,
): Promise<{ readonly machine: BenchDocument['machine']; readonly rows: Row[] }> {
  const words = [
    '--json',
    '--rounds',
    '1',
    '--size',
    `${sizeMiB}`,
    '--window',
    `${windowSeconds}`,
    ...(only === null ? [] : ['--only', only]),
  ];
  const measured: Record<Checkout, BenchDocument>[] = [];
  for (let round = 0; round < rounds; round++) {
    const documents: Partial<Record<Checkout, BenchDocument>> = {};
    for (const which of shuffled<Checkout>(['this', 'other'])) {
      told(round, roots[which]);
      documents[which] = JSON.parse(await run(roots[which], words)) as BenchDocument;
    }
    measured.push(documents as Record<Checkout, BenchDocument>);
  }
  return { machine: { ...measured[0]!.this.machine, rounds }, rows: pairRows(measured, roots.other) };
}

/** Our own figures of both, row by row; the other checkout takes the peer's place. */
export function pairRows(measured: readonly Readonly<Record<Checkout, BenchDocument>>[], otherRoot: string): Row[] {
  const names = (which: Checkout): Set<string> => new Set(measured[0]?.[which].rows.map(({ name }) => name));
  const common = measured[0]?.this.rows.filter(({ name }) => names('other').has(name)) ?? [];
  return common.map(({ name, unit, better }) => {
    const plan: RowPlan = { name, unit, better, ours: ['this', name], peer: ['other', name], peerName: otherRoot };
    return makeRow(plan, measured.map(roundOf));
  });
}

function roundOf(documents: Readonly<Record<Checkout, BenchDocument>>): Round {
  const figures = (document: BenchDocument) => Object.fromEntries(document.rows.map(({ name, ours }) => [name, ours.median]));
  return { this: figures(documents.this), other: figures(documents.other) };
}
