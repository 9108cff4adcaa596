/**
 * `npm run bench`: how fast we are, each figure beside its peer's, measured in one interleaved run. Figures are ratios of pairs; nothing
 * is judged, and no test depends on them.
 *
 *   node dist/scripts/bench.js [--rounds N] [--size MiB] [--window SECONDS] [--only NAME] [--json]
 *     --rounds  how often everything is measured (5)
 *     --size    of the disk; twice as much again is needed in the temporary folder, on a real file system (1024)
 *     --window  how long a guest is measured (3)
 *     --only    one row of the table, or a family of them: idle-copy, whole-move, loaded-move, blackout, memory, vhost-4k
 *     --json    one JSON document (scripts/bench/document.ts) instead of the table
 *
 * The folder is TMPDIR's, or VMSTORAGE_SCRATCH; both sides use the same files with direct I/O. Nothing is left behind.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { findProgram } from '../test/support/requires.js';
import { SCRATCH_PREFIX } from '../test/support/scratch.js';
import { BenchWorker } from './bench/bench-worker.js';
import type { Bench } from './bench/cases/case.js';
import { cases } from './bench/cases/index.js';
import { Children } from './bench/children.js';
import { type BenchDocument, isAsked } from './bench/document.js';
import { writeFullImage } from './bench/images.js';
import { describeMachine, loadNow } from './bench/machine.js';
import { convertFormatArguments } from './bench/qemu-programs.js';
import { runRounds } from './bench/rounds.js';
import { renderTable } from './bench/table.js';

const SIZE_LEAST_MIB = 16;
const SIZE_MOST_MIB = 1024 * 1024;

function refuse(why: string): never {
  process.stderr.write(`bench: ${why}\n`);
  process.exit(2);
}

function readArguments() {
  try {
    const { values } = parseArgs({
      options: {
        rounds: { type: 'string', default: '5' },
        size: { type: 'string', default: '1024' },
        window: { type: 'string', default: '3' },
        only: { type: 'string' },
        json: { type: 'boolean', default: false },
      },
    });
    const whole = (name: 'rounds' | 'size', least: number, most: number): number => {
      const value = Number(values[name]);
      if (!Number.isInteger(value) || value < least || value > most)
        refuse(`--${name} ${values[name]}: a whole number from ${least} to ${most}`);
      return value;
    };
    const windowSeconds = Number(values.window);
    if (!(windowSeconds >= 0.1 && windowSeconds <= 3600)) refuse(`--window ${values.window}: seconds from 0.1 to 3600`);
    const names = cases.flatMap(({ rows }) => rows.map(({ name }) => name));
    const only = values.only ?? null;
    if (!names.some((name) => isAsked(name, only))) refuse(`--only ${only}: there is no such row; there are ${names.join(', ')}`);
    return {
      rounds: whole('rounds', 1, 1000),
      sizeMiB: whole('size', SIZE_LEAST_MIB, SIZE_MOST_MIB),
      windowSeconds,
      only,
      json: values.json,
    };
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error));
  }
}

const { json, only, ...settings } = readArguments();
for (const program of ['qemu-img', 'qemu-storage-daemon'])
  if (findProgram(program) === null) refuse(`${program}, the peer, is not on PATH; npm run setup says what to install`);

const children = new Children();
const folder = mkdtempSync(join(process.env.VMSTORAGE_SCRATCH ?? tmpdir(), `${SCRATCH_PREFIX}bench-`));
/** Rejects when Ctrl+C came, so that no measurement has to be waited for. */
const stopped = new Promise<never>((_, reject) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => reject(new Error(`stopped by ${signal}`)));
});

async function measure(): Promise<BenchDocument> {
  const say = (text: string): void => void process.stderr.write(`${text}\n`);
  const load = loadNow();
  const bench: Bench = { ...settings, folder, children, rawImage: join(folder, 'source.img'), vhdxImage: join(folder, 'source.vhdx') };
  say(`writing a disk of ${bench.sizeMiB} MiB in ${folder}`);
  await writeFullImage(bench.rawImage, bench.sizeMiB);
  await children.run('qemu-img', convertFormatArguments(bench.rawImage, bench.vhdxImage));
  const worker = await BenchWorker.start(children, folder, { path: bench.rawImage, format: 'raw', vhostUserSocket: null });
  const { io } = worker;
  await worker.end();
  const rows = await runRounds(cases, bench, only, ({ round, name, run }) => say(`round ${round + 1} of ${bench.rounds}: ${name}, ${run}`));
  return { machine: await describeMachine(folder, io, load, settings), rows };
}

let failed = false;
try {
  const document = await Promise.race([measure(), stopped]);
  process.stdout.write(json ? `${JSON.stringify(document, null, 2)}\n` : renderTable(document));
} catch (error) {
  failed = true;
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
} finally {
  await children.end();
  rmSync(folder, { recursive: true, force: true });
}
// A measurement that was stopped may still wait for something; it has nothing to do any more.
process.exit(failed ? 1 : 0);
