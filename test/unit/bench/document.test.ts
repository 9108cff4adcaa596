/** What the benchmark makes of its measurements. */
import { describe, expect, it } from 'vitest';
import { measureAgainst, whyNoCheckout } from '../../../scripts/bench/against.js';
import { type BenchDocument, isAsked, makeRow, type Round, type RowPlan } from '../../../scripts/bench/document.js';
import { pairedRatio, spread } from '../../../scripts/bench/statistics.js';
import { renderTable } from '../../../scripts/bench/table.js';

describe('a spread', () => {
  it('is the least, the middle one and the most, whatever the order', () => {
    expect(spread([9, 1, 5])).toEqual({ min: 1, median: 5, max: 9 });
    expect(spread([10, 2, 9, 1])).toEqual({ min: 1, median: 5.5, max: 10 });
    expect(spread([7])).toEqual({ min: 7, median: 7, max: 7 });
  });

  it('is not made of nothing, nor of what is no measurement', () => {
    expect(() => spread([])).toThrow('no values');
    expect(() => spread([1, Number.NaN])).toThrow('measurements');
  });
});

describe('a ratio', () => {
  it('is of pairs: a machine that became half as fast in between leaves it as it is', () => {
    expect(pairedRatio([200, 100, 50], [100, 50, 25])).toEqual({ min: 2, median: 2, max: 2 });
  });

  it('is neither of unequal lists nor over nothing', () => {
    expect(() => pairedRatio([1, 2], [1])).toThrow('pairs');
    expect(() => pairedRatio([1], [0])).toThrow('no ratio');
  });
});

const plan: RowPlan = {
  ...{ name: 'blackout', unit: 'us', better: 'lower', peerName: 'the peer' },
  ...{ ours: ['us', 'switch'], peer: ['them', 'complete'] },
};
const rounds: Round[] = [
  { us: { switch: 2 }, them: { complete: 4 } },
  { us: { switch: 3 }, them: { complete: 12 } },
  { us: { switch: 10 }, them: { complete: 10 } },
];

describe('a row', () => {
  it("takes each side's figure from its own run and their ratio from the rounds", () => {
    expect(makeRow(plan, rounds)).toEqual({
      ...{ name: 'blackout', unit: 'us', better: 'lower' },
      ours: { min: 2, median: 3, max: 10 },
      peer: { name: 'the peer', min: 4, median: 10, max: 12 },
      ratio: 0.5,
      ratioSpread: { min: 0.25, median: 0.5, max: 1 },
    });
  });

  it('is refused when a run did not measure its figure', () => {
    expect(() => makeRow(plan, [{ us: { switch: 2 }, them: {} }])).toThrow("'them' did not measure 'complete'");
  });

  it('is asked for by its name or by its family, and by nothing else', () => {
    const name = 'vhost-4k-read-qd1';
    expect([null, name, 'vhost-4k', 'vhost-4k-read'].map((only) => isAsked(name, only))).toEqual([true, true, true, true]);
    expect(['vhost-4k-read-qd', 'vhost-4k-read-qd32', 'read', ''].map((only) => isAsked(name, only))).toEqual([false, false, false, false]);
  });

  it('says in the table who is ahead, where less is better too', () => {
    const machine = {
      processor: 'P',
      processors: 2,
      memoryGiB: 4,
      kernel: 'Linux',
      fileSystem: 'ext4',
      node: '20',
      qemu: '10',
      io: 'io_uring',
    };
    const lower = makeRow(plan, rounds);
    const document = {
      machine: { ...machine, load: 0, rounds: 3, sizeMiB: 16, windowSeconds: 1 },
      rows: [lower, { ...lower, better: 'higher' as const }],
    };
    const lines = renderTable(document)
      .split('\n')
      .filter((line) => line.startsWith('blackout'));
    expect(lines[0]).toMatch(
      /^blackout\s+us\s+lower\s+3\.00 \(2\.00\.\.10\.0\)\s+10\.0 \(4\.00\.\.12\.0\)\s+0\.500 \(0\.250\.\.1\.00\)\s+ahead\s+the peer$/,
    );
    expect(lines[1]).toContain('behind');
  });
});

describe('beside another checkout', () => {
  const machine = { rounds: 1 } as BenchDocument['machine'];
  const settings = { rounds: 2, sizeMiB: 64, windowSeconds: 0.5 };
  const document = (figures: Record<string, number>): BenchDocument => ({
    machine,
    rows: Object.entries(figures).map(([name, value]) => ({
      ...makeRow(plan, [{ us: { switch: value }, them: { complete: 1_000_000 } }]),
      name,
    })),
  });

  it("each round runs both, and a row holds both checkouts' own figures, never their peers'", async () => {
    const runs: string[] = [];
    const left: Record<string, Record<string, number>[]> = {
      '/new': [
        { a: 10, b: 1 },
        { a: 30, b: 1 },
      ],
      '/old': [{ a: 20 }, { a: 10 }],
    };
    const run = async (root: string, words: readonly string[]): Promise<string> => {
      runs.push(root);
      expect(words).toEqual(['--json', '--rounds', '1', '--size', '64', '--window', '0.5', '--only', 'a']);
      return JSON.stringify(document(left[root]!.shift()!));
    };
    const made = await measureAgainst({ this: '/new', other: '/old' }, settings, 'a', run, () => undefined);
    expect([runs.slice(0, 2).sort(), runs.slice(2).sort()]).toEqual([
      ['/new', '/old'],
      ['/new', '/old'],
    ]);
    expect(made.machine.rounds).toBe(2);
    expect(
      made.rows.map(({ name }) => name),
      'what only one of them measures is left out',
    ).toEqual(['a']);
    expect(made.rows[0]).toMatchObject({
      ours: { min: 10, max: 30 },
      peer: { name: '/old', min: 10, max: 20 },
      ratioSpread: { min: 0.5, max: 3 },
    });
  });

  it('a folder that is no checkout of this project is refused', () => {
    expect(whyNoCheckout('/')).toMatch('holds no checkout');
  });
});
