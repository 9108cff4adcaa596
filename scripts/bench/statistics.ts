/** The benchmark's arithmetic. Pure. */

export interface Spread {
  readonly min: number;
  readonly median: number;
  readonly max: number;
}

/** Of at least one value; the median of an even number of values is the mean of the middle two. */
export function spread(values: readonly number[]): Spread {
  if (values.length === 0) throw new Error('There is no spread of no values.');
  if (values.some((value) => !Number.isFinite(value))) throw new Error(`Not all of these are measurements: ${values.join(', ')}.`);
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { min: sorted[0]!, median, max: sorted.at(-1)! };
}

/**
 * ours / peer, pair by pair: both of a pair were measured in the same round, so what slowed the machine down slowed both, and the ratio
 * holds where neither figure does.
 */
export function pairedRatio(ours: readonly number[], peer: readonly number[]): Spread {
  if (ours.length !== peer.length) throw new Error(`${ours.length} and ${peer.length} measurements are not pairs.`);
  return spread(
    ours.map((value, i) => {
      if (peer[i] === 0) throw new Error('A peer that measured 0 has no ratio.');
      return value / peer[i]!;
    }),
  );
}
