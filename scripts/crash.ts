/**
 * `npm run crash`: moves the disks of a machine under load and kills what does it, again and again, and proves that nothing was lost.
 * `--help` says what it takes.
 */
import { randomInt } from 'node:crypto';
import { tmpdir } from 'node:os';
import { resolve } from 'node:path';
import { readCommandLine } from './command-line.js';
import { qemuImgMissing } from './crash/compare.js';
import type { CrashInstance } from './crash/instance.js';
import { points } from './crash/points.js';
import { crash } from './crash/run.js';
import { shapes } from './crash/shapes.js';

const { json, ...settings } = readCommandLine(
  {
    name: 'crash',
    says: 'Moves the disks of a machine under load, kills what does it, again and again, and proves that nothing was lost',
    options: {
      kills: { value: 'N', default: '100', says: 'how many kills in all' },
      'per-round': { value: 'N', default: '10', says: 'kills of one machine before it is stopped and compared' },
      shapes: {
        value: 'A,B',
        default: shapes.map(({ name }) => name).join(','),
        says: 'machines of these shapes in turn (scripts/crash/shapes.ts)',
      },
      seed: { value: 'N', says: 'repeats the choices of an earlier run, not its timing (default: another one each time)' },
      points: { value: 'A,B', says: 'these kill points (scripts/crash/points.ts), once each, instead of what a run of this length owes' },
      folder: { value: 'PATH', default: tmpdir(), says: 'where each machine gets its folder' },
      json: { says: 'prints the report (scripts/crash/run.ts) as one JSON document; the story goes to standard error' },
    },
    exit:
      '0 only when nothing was lost, no guest saw an error, nothing was stuck, and every point was hit as often as it was owed; ' +
      '1 when not, 2 for a wrong argument, 130 after Ctrl+C',
  },
  (line) => {
    const only = (line.value('points') ?? '').split(',').filter((name) => name !== '');
    const unknown = only.find((name) => !points.some((point) => point.name === name));
    if (unknown !== undefined)
      throw line.wrong(`--points: there is no kill point ${unknown}; there are ${points.map(({ name }) => name).join(', ')}`);
    const wanted = line.value('shapes')!.split(',');
    const strange = wanted.find((name) => !shapes.some((shape) => shape.name === name));
    if (strange !== undefined)
      throw line.wrong(`--shapes: there is no shape ${strange}; there are ${shapes.map(({ name }) => name).join(', ')}`);
    return {
      shapes: wanted,
      kills: line.whole('kills', 1),
      killsPerRound: line.whole('per-round', 1),
      seed: line.has('seed') ? line.whole('seed', 1) : randomInt(1, 2 ** 31),
      only,
      folder: resolve(line.value('folder')!),
      json: line.has('json'),
    };
  },
);
const { seed } = settings;
const out = json ? process.stderr : process.stdout;
const say = (text: string): void => void out.write(`${text}\n`);
const note = qemuImgMissing();
if (note !== null) say(note);
const living = new Set<CrashInstance>();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    say(`broken off by ${signal}, with --seed ${seed}`);
    void Promise.all([...living].map((instance) => instance.end().then(() => instance.remove()))).finally(() => process.exit(130));
  });
}
const report = await crash({ ...settings, living, say });
if (json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
else say(JSON.stringify(report, null, 2));
if (!report.ok) say(`FAILED with --seed ${seed}`);
process.exitCode = report.ok ? 0 : 1;
