/** How `npm test` counts: nothing that failed may be taken for a pass, nothing that did not run for a success. */
import { describe, expect, it } from 'vitest';
import { readCargoOutput } from '../../../scripts/test/cargo-suite.js';
import { judgeSkips } from '../../../scripts/test/result.js';
import { readVitestReport } from '../../../scripts/test/vitest-suite.js';

describe('results of cargo', () => {
  const text = [
    'test mirror::tests::a ... ok',
    'test reactor::b - should panic ... ok',
    'test slow ... ignored, takes an hour',
    'test c ... FAILED',
    '---- c stdout ----',
    "thread 'c' panicked: left != right",
    'failures:',
    'test result: FAILED. 2 passed; 1 failed; 1 ignored',
  ].join('\n');

  it('counts tests, says why one failed and why one was ignored', () => {
    expect(readCargoOutput(text, 101, 'cargo ended with 101')).toEqual({
      passed: 2,
      failed: [{ name: 'c', text: "thread 'c' panicked: left != right" }],
      skipped: [{ name: 'slow', text: 'takes an hour' }],
    });
  });

  it('takes a run that ends badly without a failed test for a failure', () => {
    expect(readCargoOutput('error: could not compile', 101, 'cargo ended with 101')).toMatchObject({
      passed: 0,
      failed: [{ name: 'cargo test' }],
    });
    expect(readCargoOutput('test a ... ok\n', null, 'cargo was ended after 20 minutes').failed).toHaveLength(1);
  });
});

describe('results of vitest', () => {
  it('counts a file that cannot even be loaded as a failure', () => {
    const file = (name: string, status: string, tests: [string, string][]) => ({
      name: `/checkout/test/unit/${name}`,
      status,
      message: 'cannot load',
      assertionResults: tests.map(([fullName, state]) => ({ fullName, status: state, failureMessages: state === 'failed' ? ['why'] : [] })),
    });
    const report = {
      testResults: [
        file('a.test.ts', 'failed', [
          ['one', 'passed'],
          ['two', 'failed'],
          ['three', 'skipped'],
        ]),
        file('b.test.ts', 'failed', []),
      ],
    };
    expect(readVitestReport(report, '/checkout')).toEqual({
      passed: 1,
      failed: [
        { name: 'test/unit/a.test.ts: two', text: 'why' },
        { name: 'test/unit/b.test.ts', text: 'cannot load' },
      ],
      skipped: [{ name: 'test/unit/a.test.ts: three', text: 'skipped' }],
    });
  });
});

describe('skips', () => {
  const result = {
    suite: 'x',
    passed: 1,
    failed: [],
    skipped: [
      { name: 'a needs fio', text: 'fio is not on PATH' },
      { name: 'b', text: '' },
    ],
    seconds: 1,
  };
  it('are accepted on a laptop, and in CI only when they are listed with a reason', () => {
    expect(judgeSkips(result, [], false)).toBe(result);
    expect(judgeSkips(result, [{ name: 'needs fio', reason: 'no fio there' }], true)).toMatchObject({
      failed: [{ name: 'b', text: 'skipped, which CI does not accept' }],
      skipped: [{ name: 'a needs fio' }],
    });
  });
});
