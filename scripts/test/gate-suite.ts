/** `npm run check` as a suite: each of its checks counts as one test. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SuiteResult, TestCase } from './result.js';
import { runLogged } from './run-logged.js';

/** clippy from nothing takes 2 minutes on two cores. */
const LIMIT_MS = 15 * 60_000;

export async function runGateSuite(how: { root: string; env: NodeJS.ProcessEnv; log: string }): Promise<SuiteResult> {
  const start = Date.now();
  const { code, why } = await runLogged(process.execPath, [join(how.root, 'scripts/check.mjs')], {
    cwd: how.root,
    env: how.env,
    log: how.log,
    limitMs: LIMIT_MS,
  });
  const text = readFileSync(how.log, 'utf8');
  const failed: TestCase[] = [...text.matchAll(/^FAILED (\S+)/gm)].map(([, name = '']) => ({ name, text: sectionOf(text, name) }));
  if (code !== 0 && failed.length === 0) failed.push({ name: 'check', text: `${why}\n${text.split('\n').slice(-40).join('\n')}` });
  return { suite: 'check', passed: [...text.matchAll(/^ok {4} /gm)].length, failed, skipped: [], seconds: (Date.now() - start) / 1000 };
}

function sectionOf(text: string, name: string): string {
  const start = text.indexOf(`--- ${name} ---`);
  if (start < 0) return '';
  const lines = text.slice(start).split('\n').slice(1);
  const end = lines.findIndex((line) => /^--- \S+ ---$|^check: /.test(line));
  return lines
    .slice(0, end < 0 ? undefined : end)
    .slice(0, 60)
    .join('\n');
}
