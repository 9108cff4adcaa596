/**
 * A sample of `npm run crash`: a machine under load whose move is killed, at named points and at random, loses nothing. The full run is
 * 100 kills and more; here are the points at which the most can go wrong.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { points } from '../../scripts/crash/points.js';
import { playRound } from '../../scripts/crash/round.js';
import { crash } from '../../scripts/crash/run.js';
import { shapes } from '../../scripts/crash/shapes.js';
import type { CrashInstance } from '../../scripts/crash/instance.js';
import type { Struck } from '../../scripts/crash/strike.js';
import { makeScratch, type Scratch } from '../support/scratch.js';

const LIMIT_MS = 600_000;
const SEED = 20260601;

let scratch: Scratch;
const living = new Set<CrashInstance>();
beforeEach(async () => {
  scratch = await makeScratch('crash');
});
afterEach(async () => {
  for (const instance of living) await instance.end(); // a test that ran out of time
  await scratch[Symbol.asyncDispose]();
});
const point = (name: string) => points.find((one) => one.name === name)!;

describe('a move that is killed', () => {
  it(
    'resumes or rolls back without losing a byte: the journal at each of its steps, the host after its own, and kills at random',
    { timeout: LIMIT_MS },
    async () => {
      const only = [
        'after:started',
        'after:copy',
        'before:verify',
        'before:committed',
        'after:committed',
        'host:registry',
        'host:source',
        'before:cancelled',
        'after:end',
      ];
      const report = await crash({
        kills: 12,
        seed: SEED,
        only,
        killsPerRound: 6,
        shapes: ['one', 'sparse'],
        living,
        folder: scratch.path,
      });
      expect(report.problems).toEqual([]);
      expect(report).toMatchObject({ ok: true, lostBytes: 0, guestErrors: 0, stuck: 0 });
      for (const name of only) expect(report.byPoint[name], name).toBeGreaterThan(0);
      expect(report.kills).toBeGreaterThanOrEqual(12);
      expect(report.byShape, 'one queue, and four with a disk of 64 TiB').toMatchObject({
        one: expect.any(Number),
        sparse: expect.any(Number),
      });
      expect(report.killedInAllQueues).toBeGreaterThan(0);
      expect(report.rolledBack, 'the one that was stopped').toBeGreaterThan(0);
      expect(report.blocksChecked).toBeGreaterThan(0);
    },
  );

  it("two disks switch together or not at all: killed between the disks' last steps", { timeout: LIMIT_MS }, async () => {
    const folder = join(scratch.path, 'together');
    mkdirSync(folder);
    const around = ['before:prepared', 'after:prepared', 'before:committed', 'after:committed'];
    const seen: Struck[] = [];
    const round = await playRound({
      shape: shapes.find(({ name }) => name === 'four')!,
      load: { queueDepth: 32, hotPercent: 50, hotBytes: 256 * 1024, writePercent: 60, zeroPercent: 5, flushEvery: 32, seed: SEED },
      restartDelayMs: () => 0,
      say: () => undefined,
      living,
      folder,
      next: (struck) => {
        seen.splice(0, seen.length, ...struck);
        const name = around[struck.length];
        return name === undefined ? null : { kind: 'points', points: [point(name)] };
      },
    });
    expect(round).toMatchObject({ problems: [], lostBytes: 0, guestErrors: 0, stuck: 0 });
    expect(seen.map((one) => one.points)).toEqual(around.map((name) => [name]));
    // Before COMMITTED the successor serves all from the old side, after it all from the new; never one of each (together.ts throws).
    for (const { together, moved } of seen) {
      expect(together!.before).toBeGreaterThan(0);
      if (moved) expect(together!.after).toBeGreaterThan(0);
    }
  });
});
