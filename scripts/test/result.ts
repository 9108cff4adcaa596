/** What a suite came to, and how results are added up. */

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
  readonly seconds: number;
}

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
