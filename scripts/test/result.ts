/** What a suite came to, how results are judged, and how they are shown. Pure. */

export interface TestCase {
  readonly name: string;
  /** Why it failed or was skipped, if that is known. */
  readonly text: string;
}

export interface SuiteResult {
  readonly suite: string;
  readonly passed: number;
  readonly failed: readonly TestCase[];
  readonly skipped: readonly TestCase[];
  /** Counted as passed, but failed the first time: a machine that was busy, or a fault that comes and goes. */
  readonly secondAttempts?: readonly TestCase[];
  readonly seconds: number;
}

/** Characters of a test's text that are shown; the log has all. */
const TEXT_MOST = 6000;

export function renderResult({ suite, passed, failed, skipped, secondAttempts = [], seconds }: SuiteResult, log: string): string {
  const counts = `${passed} passed, ${failed.length} failed, ${skipped.length} skipped, ${seconds.toFixed(1)} s`;
  return [
    `${failed.length === 0 ? 'ok    ' : 'FAILED'} ${suite}: ${counts}`,
    ...failed.map(({ name, text }) => `  FAILED ${name}\n${indented(text)}`),
    ...secondAttempts.map(({ name, text }) => `  passed at the second attempt: ${name}\n${indented(text)}`),
    ...skipped.map(({ name, text }) => `  skipped ${name}${text ? ` (${text})` : ''}`),
    ...(failed.length > 0 ? [`  log: ${log}`] : []),
  ].join('\n');
}

const indented = (text: string): string => text.slice(0, TEXT_MOST).replaceAll(/^/gm, '    ');

/** A skip that CI accepts, with its reason: the part of a test's full name, and why. Elsewhere a skip is only reported. */
export interface SkipAllowance {
  readonly name: string;
  readonly reason: string;
}

/** Under CI a skip is a failure unless it is allowed. */
export function judgeSkips(result: SuiteResult, allowances: readonly SkipAllowance[], ci: boolean): SuiteResult {
  if (!ci) return result;
  const refused = result.skipped.filter(({ name }) => !allowances.some((allowance) => name.includes(allowance.name)));
  return {
    ...result,
    failed: [
      ...result.failed,
      ...refused.map(({ name, text }) => ({ name, text: `skipped, which CI does not accept${text ? `: ${text}` : ''}` })),
    ],
    skipped: result.skipped.filter((test) => !refused.includes(test)),
  };
}
