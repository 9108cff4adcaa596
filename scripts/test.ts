/**
 * `npm test`: every suite, one after the other, and what they leave behind. Last line: `N passed, N failed, N skipped`.
 *
 *   cargo (io_uring, threads) -> unit -> addon -> security -> system -> fault -> powershell -> wizard -> check
 *
 * `--help` says what it takes.
 *
 * Each suite gets a temporary folder of its own as TMPDIR and a marker in its environment. A process, socket, loop device,
 * mount or file of it that is still there when it has ended is a failure, is named, and is removed. Logs: .cache/test/.
 */
import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { repository } from '../test/support/guest-kernel.js';
import { findLeftovers, killLeftovers, leftoversAfter, MARKER } from '../test/support/leftovers.js';
import { readCommandLine } from './command-line.js';
import { cargoPasses, runCargoSuite } from './test/cargo-suite.js';
import { runGateSuite } from './test/gate-suite.js';
import { judgeSkips, renderResult, type SkipAllowance, type SuiteResult } from './test/result.js';
import { endAll } from './test/run-logged.js';
import { runVitestSuite, vitestSuites } from './test/vitest-suite.js';

const logs = join(repository, '.cache/test');
const ci = process.env.CI === 'true';
const names = [...cargoPasses.map(({ suite }) => suite), ...vitestSuites, 'check'];

interface Place {
  readonly root: string;
  readonly env: NodeJS.ProcessEnv;
  readonly log: string;
}

function runSuite(suite: string, place: Place): Promise<SuiteResult> {
  const pass = cargoPasses.find((candidate) => candidate.suite === suite);
  if (pass) return runCargoSuite(pass, place);
  if (suite === 'check') return runGateSuite(place);
  return runVitestSuite(suite, { ...place, report: join(logs, `${suite}.json`) });
}

/** A suite in its own temporary folder; what it leaves behind is added to its failures. */
async function runWatched(suite: string): Promise<SuiteResult> {
  const id = `${process.pid}-${suite}-${randomBytes(4).toString('hex')}`;
  // Short: a socket's path has at most 107 characters.
  const folder = mkdtempSync(join(tmpdir(), 'vmst-'));
  chmodSync(folder, 0o711); // a user whom a test makes walks through it to what is his
  const skips = join(logs, `${suite}.skips`);
  const run = { id, folder };
  const stop = (): void => killLeftovers(findLeftovers(run));
  process.once('exit', stop);
  try {
    for (const name of [`${suite}.log`, `${suite}.json`, `${suite}.skips`]) rmSync(join(logs, name), { force: true });
    const env = { ...process.env, [MARKER]: id, TMPDIR: folder, VMSTORAGE_SKIPS: skips };
    const result = await runSuite(suite, { root: repository, env, log: join(logs, `${suite}.log`) });
    const left = await leftoversAfter(run);
    killLeftovers(left);
    const reasons = existsSync(skips) ? [...new Set(readFileSync(skips, 'utf8').trim().split('\n'))].join('; ') : '';
    return {
      ...result,
      skipped: result.skipped.map((test) => ({ ...test, text: reasons || test.text })),
      failed: [...result.failed, ...left.map(({ kind, what }) => ({ name: `left behind: ${kind}`, text: what }))],
    };
  } finally {
    stop();
    process.off('exit', stop);
    rmSync(folder, { recursive: true, force: true });
  }
}

const chosen = readCommandLine(
  {
    name: 'test',
    says: 'Runs every suite, or the named ones, one after the other, and looks for what they leave behind; logs are in .cache/test',
    options: {},
    words: { name: 'suite', says: names.join(', ') },
    exit: '0 when tests passed and none failed, 1 when not, 2 for a wrong argument, 130 after Ctrl+C',
  },
  (line) => {
    const unknown = line.words.find((name) => !names.includes(name));
    if (unknown !== undefined) throw line.wrong(`there is no suite ${unknown}; there are ${names.join(', ')}`);
    return line.words;
  },
);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    endAll();
    process.exit(130);
  });
}
mkdirSync(logs, { recursive: true });
const allowances = JSON.parse(readFileSync(join(repository, '.config/allowed-skips.json'), 'utf8')) as SkipAllowance[];
const total = { passed: 0, failed: 0, skipped: 0 };
for (const suite of names.filter((name) => chosen.length === 0 || chosen.includes(name))) {
  console.log(`...    ${suite}`);
  const result = judgeSkips(await runWatched(suite), allowances, ci);
  console.log(renderResult(result, join('.cache/test', `${suite}.log`)));
  total.passed += result.passed;
  total.failed += result.failed.length;
  total.skipped += result.skipped.length;
}
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1;
