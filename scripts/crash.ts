/**
 * `npm run crash`: moves the disks of a machine under load and kills what does it, again and again, and proves that nothing was lost.
 *
 *   node dist/scripts/crash.js [--kills 100] [--json] [--seed n] [--points a,b] [--per-round 10]
 *     --json       prints the report as one JSON document (scripts/crash/run.ts); the story goes to standard error
 *     --seed       repeats the choices of an earlier run (not its timing)
 *     --points     these kill points, once each, instead of what a run of this length owes
 *     --folder     where each machine gets its folder (default: the one for temporary files)
 *     --per-round  kills of one machine before it is stopped and compared
 *
 * Exit code 0 only when nothing was lost, no guest saw an error, nothing was stuck, and every point was hit as often as it was owed.
 */
import { randomInt } from 'node:crypto';
import { tmpdir } from 'node:os';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { qemuImgMissing } from './crash/compare.js';
import type { CrashInstance } from './crash/instance.js';
import { crash } from './crash/run.js';

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '100' },
    json: { type: 'boolean', default: false },
    seed: { type: 'string' },
    points: { type: 'string', default: '' },
    'per-round': { type: 'string', default: '10' },
    folder: { type: 'string', default: tmpdir() },
  },
});
const whole = (name: string, text: string): number => {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 1) return value;
  console.error(`crash: --${name} must be a whole number from 1, not ${text}`);
  process.exit(2);
};
const out = values.json ? process.stderr : process.stdout;
const say = (text: string): void => void out.write(`${text}\n`);
const note = qemuImgMissing();
if (note !== null) say(note);
const seed = values.seed === undefined ? randomInt(1, 2 ** 31) : whole('seed', values.seed);
const only = values.points === '' ? [] : values.points.split(',');
const living = new Set<CrashInstance>();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    say(`broken off by ${signal}, with --seed ${seed}`);
    void Promise.all([...living].map((instance) => instance.end().then(() => instance.remove()))).finally(() => process.exit(130));
  });
}
const report = await crash({
  living,
  folder: resolve(values.folder),
  kills: whole('kills', values.kills),
  seed,
  only,
  killsPerRound: whole('per-round', values['per-round']),
  say,
});
if (values.json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
else say(JSON.stringify(report, null, 2));
if (!report.ok) say(`FAILED with --seed ${seed}`);
process.exitCode = report.ok ? 0 : 1;
