/** The engine's tests by cargo, twice: with io_uring, and with the thread pool that stands in where io_uring is refused. */
import { readFileSync } from 'node:fs';
import type { SuiteResult, TestCase } from './result.js';
import { runLogged } from './run-logged.js';

/** Building the tests from nothing takes 4 minutes on two cores. */
const LIMIT_MS = 20 * 60_000;

export interface CargoPass {
  readonly suite: string;
  /** VMSTORAGE_IO for the tests: which reactor they get. */
  readonly io: 'auto' | 'threads';
}
export const cargoPasses: readonly CargoPass[] = [
  { suite: 'rust', io: 'auto' },
  { suite: 'rust-threads', io: 'threads' },
];

export async function runCargoSuite(
  { suite, io }: CargoPass,
  how: { root: string; env: NodeJS.ProcessEnv; log: string },
): Promise<SuiteResult> {
  const start = Date.now();
  const env = { ...how.env, CARGO_TERM_COLOR: 'never', ...(io === 'auto' ? {} : { VMSTORAGE_IO: io }) };
  const args = ['test', '--locked', '--no-fail-fast', '-p', 'vmstorage-engine', '--features', 'testing'];
  const { code, why } = await runLogged('cargo', args, { cwd: `${how.root}/native`, env, log: how.log, limitMs: LIMIT_MS });
  return { suite, ...readCargoOutput(readFileSync(how.log, 'utf8'), code, why), seconds: (Date.now() - start) / 1000 };
}

/** Counts from the tests' own lines; a binary that dies or does not build is one failure. */
export function readCargoOutput(text: string, code: number | null, why: string): Omit<SuiteResult, 'suite' | 'seconds'> {
  let passed = 0;
  const failed: TestCase[] = [];
  const skipped: TestCase[] = [];
  for (const match of text.matchAll(/^test (.+?)(?: - should panic)? \.\.\. (?:[^\n]*\b)?(ok|FAILED|ignored)(?:, ([^\n]*))?$/gm)) {
    const [, name = '', state, reason = ''] = match;
    if (state === 'ok') passed++;
    else if (state === 'ignored') skipped.push({ name, text: reason });
    else failed.push({ name, text: sectionOf(text, name) });
  }
  if (code !== 0 && failed.length === 0)
    failed.push({ name: 'cargo test', text: `${why}\n${text.trimEnd().split('\n').slice(-40).join('\n')}` });
  return { passed, failed, skipped };
}

/** What a failed test printed: libtest repeats it under "---- name stdout ----". */
function sectionOf(text: string, name: string): string {
  const start = text.indexOf(`---- ${name} stdout ----`);
  if (start < 0) return '';
  const rest = text.slice(start).split('\n').slice(1, 41);
  const end = rest.findIndex((line) => line.startsWith('---- ') || line === 'failures:');
  return rest
    .slice(0, end < 0 ? undefined : end)
    .join('\n')
    .trim();
}
