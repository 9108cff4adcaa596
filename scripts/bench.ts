/**
 * `npm run bench`: how fast we are, each figure beside its peer's, measured in one interleaved run. Figures are ratios of pairs; nothing
 * is judged, and no test depends on them.
 *
 * The folder is TMPDIR's, or VMSTORAGE_SCRATCH; both sides use the same files with direct I/O. Nothing is left behind.
 * `--help` says what it takes.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { findProgram } from '../test/support/requires.js';
import { SCRATCH_PREFIX } from '../test/support/scratch.js';
import { readCommandLine } from './command-line.js';
import { measureAgainst, whyNoCheckout } from './bench/against.js';
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
import { measureWizard, renderWizardFigures } from './bench/wizard.js';

const SIZE_LEAST_MIB = 16;
const SIZE_MOST_MIB = 1024 * 1024;

const { json, only, against, wizard, ...settings } = readCommandLine(
  {
    name: 'bench',
    says: "Measures how fast we are, each figure beside its peer's, in one interleaved run; nothing is judged",
    options: {
      rounds: { value: 'N', default: '5', says: 'how often everything is measured' },
      size: {
        value: 'MiB',
        default: '1024',
        says: 'of the disk, in MiB; twice as much again is needed in the folder: VMSTORAGE_SCRATCH, else TMPDIR, on a real file system',
      },
      window: { value: 'SECONDS', default: '3', says: 'how long a guest is measured, in seconds' },
      only: {
        value: 'NAME',
        says: 'one row of the table, or a family of them: idle-copy, whole-move, loaded-move, blackout, memory, lane, vhost-4k',
      },
      against: {
        value: 'FOLDER',
        says: 'another built checkout of this project: the rows show this one beside that one instead of beside the peers',
      },
      json: { says: 'prints one JSON document (scripts/bench/document.ts) instead of the table' },
    },
    words: { name: 'what', says: "wizard: what the wizard's page costs, on a host with a thousand machines, instead of the table" },
    exit: '0 when everything was measured, 1 when something failed, 2 for a wrong argument or a missing peer, 130 after Ctrl+C',
  },
  (line) => {
    const windowSeconds = Number(line.value('window'));
    if (!(windowSeconds >= 0.1 && windowSeconds <= 3600)) throw line.wrong(`--window ${line.value('window')}: seconds from 0.1 to 3600`);
    const only = line.value('only');
    const names = cases.flatMap(({ rows }) => rows.map(({ name }) => name));
    if (!names.some((name) => isAsked(name, only))) throw line.wrong(`--only ${only}: there is no such row; there are ${names.join(', ')}`);
    const unknown = line.words.find((word) => word !== 'wizard');
    if (unknown !== undefined) throw line.wrong(`there is no ${unknown}; there is wizard`);
    const against = line.value('against');
    const why = against === null ? null : whyNoCheckout(against);
    if (why !== null) throw line.wrong(`--against ${against}: ${why}`);
    return {
      rounds: line.whole('rounds', 1, 1000),
      sizeMiB: line.whole('size', SIZE_LEAST_MIB, SIZE_MOST_MIB),
      windowSeconds,
      only,
      against: against === null ? null : resolve(against),
      json: line.has('json'),
      wizard: line.words.includes('wizard'),
    };
  },
);
for (const program of wizard ? [] : ['qemu-img', 'qemu-storage-daemon']) {
  if (findProgram(program) !== null) continue;
  process.stderr.write(`bench: ${program}, the peer, is not on PATH; npm run setup says what to install\n`);
  process.exit(2);
}

const children = new Children();
const folder = mkdtempSync(join(process.env.VMSTORAGE_SCRATCH ?? tmpdir(), `${SCRATCH_PREFIX}bench-`));
let exitCode = 0;
/** Rejects when Ctrl+C came, so that no measurement has to be waited for. */
const stopped = new Promise<never>((_, reject) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      exitCode = 130;
      reject(new Error(`stopped by ${signal}`));
    });
  }
});

const say = (text: string): void => void process.stderr.write(`${text}\n`);

async function measureBesideCheckout(other: string): Promise<BenchDocument> {
  const roots = { this: join(import.meta.dirname, '../..'), other };
  // Both write their disks into a folder of this run's, which goes with it.
  const run = (root: string, words: readonly string[]): Promise<string> => {
    const scratch = { VMSTORAGE_SCRATCH: folder, TMPDIR: folder };
    return children.output(process.execPath, [join(root, 'dist/scripts/bench.js'), ...words], scratch);
  };
  return measureAgainst(roots, settings, only, run, (round, root) => say(`round ${round + 1} of ${settings.rounds}: ${root}`));
}

async function measure(): Promise<BenchDocument> {
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

async function measureAndTellTable(): Promise<void> {
  const document = await Promise.race([against === null ? measure() : measureBesideCheckout(against), stopped]);
  process.stdout.write(json ? `${JSON.stringify(document, null, 2)}\n` : renderTable(document));
}

async function measureAndTellWizard(): Promise<void> {
  const figures = await Promise.race([measureWizard(settings.rounds, say), stopped]);
  const machine = await describeMachine(folder, '', loadNow(), settings);
  process.stdout.write(json ? `${JSON.stringify({ machine, wizard: figures }, null, 2)}\n` : renderWizardFigures(figures));
}

try {
  if (wizard) await measureAndTellWizard();
  else await measureAndTellTable();
} catch (error) {
  exitCode ||= 1;
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
} finally {
  await children.end();
  rmSync(folder, { recursive: true, force: true });
}

// A measurement that was stopped may still wait for something; it has nothing to do any more.
process.exit(exitCode);
