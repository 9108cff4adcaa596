/** How `npm test` counts: nothing that failed may be taken for a pass, nothing that did not run for a success. */
import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readCargoOutput } from '../../../scripts/test/cargo-suite.js';
import { judgeSkips, renderResult } from '../../../scripts/test/result.js';
import { readVitestReport, runVitestSuite } from '../../../scripts/test/vitest-suite.js';
import { repository } from '../../support/guest-kernel.js';
import { makeScratch } from '../../support/scratch.js';

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

describe('a second attempt', () => {
  it('that passes counts as a pass, and is shown with what failed at first', async () => {
    await using scratch = await makeScratch('retry');
    const at = (...names: string[]): string => join(scratch.path, ...names);
    symlinkSync(join(repository, 'node_modules'), at('node_modules'));
    for (const folder of ['.config', 'test/system']) mkdirSync(at(folder), { recursive: true });
    // A copy: the tests to run are those of the folder the configuration is in.
    copyFileSync(join(repository, '.config/vitest.config.ts'), at('.config/vitest.config.ts'));
    writeFileSync(
      at('test/system/flaky.test.ts'),
      `import { expect, it } from 'vitest';
       const attempts = [0, 0];
       it('comes and goes', () => expect(++attempts[0], 'the machine was busy').toBe(2));
       it('is wrong', () => expect(++attempts[1]).toBe(5));
       it('is right', () => expect(1).toBe(1));`,
    );
    const how = { root: scratch.path, env: { ...process.env }, log: at('system.log'), report: at('system.json') };
    const result = await runVitestSuite('system', how);
    expect(result).toMatchObject({ passed: 2, failed: [{ name: 'test/system/flaky.test.ts: is wrong' }], skipped: [] });
    const shown = renderResult(result, 'system.log').split('\n');
    const line = shown.indexOf('  passed at the second attempt: test/system/flaky.test.ts: comes and goes');
    expect(shown[line + 1]).toMatch(/^ {4}AssertionError: the machine was busy: expected 1 to be 2/);
    expect(shown[line + 2]).toMatch(/^ {8}at .*flaky\.test\.ts:3:/);
    expect(shown).toHaveLength(line + 4);
    expect(shown.filter((text) => text.includes('second attempt'))).toHaveLength(1);
    expect(shown[0]).toMatch(/^FAILED system: 2 passed, 1 failed, 0 skipped, /);
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
