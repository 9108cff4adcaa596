/** One folder of test/ by vitest, counted from its JSON report. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { filesWithTests } from './test-files.js';
import type { SuiteResult, TestCase } from './result.js';
import { runLogged } from './run-logged.js';

/** The longest suite boots some twenty guests under emulation. */
const LIMIT_MS = 20 * 60_000;
export const vitestSuites = ['unit', 'addon', 'security', 'system', 'fault', 'powershell', 'wizard'] as const;

interface Report {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message: string;
    readonly assertionResults: readonly {
      readonly fullName: string;
      readonly status: string;
      readonly failureMessages: readonly string[];
    }[];
  }[];
}

export async function runVitestSuite(
  suite: string,
  how: { root: string; env: NodeJS.ProcessEnv; log: string; report: string },
): Promise<SuiteResult> {
  const start = Date.now();
  const seconds = (): number => (Date.now() - start) / 1000;
  if (filesWithTests(join(how.root, 'test', suite)).length === 0) return { suite, passed: 0, failed: [], skipped: [], seconds: 0 };
  const args = [
    'run',
    '--config',
    '.config/vitest.config.ts',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${how.report}`,
    // A guest under emulation on two cores: one more attempt tells a machine that was busy from a fault. What needed it is shown.
    ...(suite === 'system' || suite === 'fault' || suite === 'wizard' ? ['--retry=1'] : []),
    `test/${suite}/`,
  ];
  const run = await runLogged(join(how.root, 'node_modules/.bin/vitest'), args, {
    cwd: how.root,
    // Both set, every Node program of a test would warn of it.
    env: { ...how.env, NO_COLOR: '1', FORCE_COLOR: undefined },
    log: how.log,
    limitMs: LIMIT_MS,
  });
  const log = readFileSync(how.log, 'utf8');
  if (!existsSync(how.report))
    return { suite, passed: 0, failed: [{ name: suite, text: `${run.why}\n${lastLines(log)}` }], skipped: [], seconds: seconds() };
  const report = JSON.parse(readFileSync(how.report, 'utf8')) as Report;
  const counted = readVitestReport(report, how.root);
  // Green tests and a red run: an unhandled rejection, an error in a teardown.
  const failed =
    run.code !== 0 && counted.failed.length === 0
      ? [{ name: suite, text: `${run.why}, though no test failed\n${lastLines(log)}` }]
      : counted.failed;
  return { suite, ...counted, failed, secondAttempts: readSecondAttempts(report, how.root), seconds: seconds() };
}

export function readVitestReport(report: Report, root: string): Omit<SuiteResult, 'suite' | 'seconds'> {
  let passed = 0;
  const failed: TestCase[] = [];
  const skipped: TestCase[] = [];
  for (const file of report.testResults) {
    const place = file.name.replace(`${root}/`, '');
    for (const { fullName, status, failureMessages } of file.assertionResults) {
      const name = `${place}: ${fullName}`;
      if (status === 'passed') passed++;
      else if (status === 'failed') failed.push({ name, text: failureMessages.join('\n') });
      else skipped.push({ name, text: status });
    }
    if (file.status === 'failed' && !file.assertionResults.some(({ status }) => status === 'failed'))
      failed.push({ name: place, text: file.message });
  }
  return { passed, failed, skipped };
}

/** Tests that passed and have a failure to tell: that of their first attempt, without the runner's part of its stack. */
export function readSecondAttempts(report: Report, root: string): readonly TestCase[] {
  return report.testResults.flatMap((file) =>
    file.assertionResults
      .filter(({ status, failureMessages }) => status === 'passed' && failureMessages.length > 0)
      .map(({ fullName, failureMessages }) => ({
        name: `${file.name.replace(`${root}/`, '')}: ${fullName}`,
        text: failureMessages[0]!.replaceAll(/\n\s+at .*(?:node_modules|<anonymous>).*/g, ''),
      })),
  );
}

const lastLines = (text: string): string => text.trimEnd().split('\n').slice(-40).join('\n');
