/** The demo's judgement: each thing that was not seen keeps it from being a proof. */
import { describe, expect, it } from 'vitest';
import { renderProgress } from '../../../scripts/demo/progress-line.js';
import { judge, renderReport, wasDirect, type DemoFindings } from '../../../scripts/demo/report.js';

const identity = { path: '/fast/a.vhdx', device: '1', inode: '2' };
const receipt = {
  disk: 0,
  bytes: '1',
  hash: 'ab',
  unitsWrittenSince: 0,
  source: identity,
  target: identity,
  generation: 1,
  verifiedAt: '',
  switchedAt: '',
};
const proven: DemoFindings = {
  viaPowerShell: true,
  powershell: { version: '7.6.9', host: 'ConsoleHost' },
  guest: 'qemu-tcg',
  guestIoErrors: 0,
  guestMaxLatencyMsBefore: 5,
  guestMaxLatencyMsDuring: 9,
  blackoutMs: 0.4,
  blocksChecked: 100,
  blocksWrong: 0,
  sourceGone: true,
  bytesCopied: 1,
  bytesRecopied: 0,
  bytesMirrored: 0,
  bytesVerified: 1,
  seconds: 3,
  receipt: [receipt],
  guestRequestsAfter: 10,
  disks: 1,
  troubles: [],
};

describe('the judgement', () => {
  it('is a proof when everything was seen', () => {
    expect(judge(proven)).toMatchObject({ ok: true, problems: [] });
  });

  it.each<[string, Partial<DemoFindings>]>([
    ['no guest', { guest: null }],
    ['an I/O error', { guestIoErrors: 1 }],
    ['no count of errors', { guestIoErrors: null }],
    ['a guest that stopped', { guestRequestsAfter: 0 }],
    ['no block checked', { blocksChecked: 0 }],
    ['a wrong block', { blocksWrong: 1 }],
    ['a source that is still there', { sourceGone: false }],
    ['a switch that was not measured', { blackoutMs: null }],
    ['a missing receipt', { receipt: [] }],
    ['nothing verified', { bytesVerified: 0 }],
    ['any trouble', { troubles: ['left behind: 17: qemu'] }],
    ['a story that was not told to its end', { disks: 0 }],
  ])('is none with %s', (_, change) => {
    const report = judge({ ...proven, ...change });
    expect(report.ok).toBe(false);
    expect(report.problems.length).toBe(1);
  });

  it('says that PowerShell spoke itself only when every look at its process saw it', () => {
    expect(wasDirect([true, true])).toBe(true);
    expect(wasDirect([true, null, false])).toBe(false);
    expect(wasDirect([true, null])).toBeNull();
    expect(wasDirect([])).toBeNull();
    const row = (viaPowerShell: boolean | null) => /cmdlets run by .*/.exec(renderReport(judge({ ...proven, viaPowerShell })))?.[0];
    expect(row(true)).toMatch(/ConsoleHost\)$/);
    expect(row(false)).toMatch(/but not directly$/);
    expect(row(null)).toMatch(/is not known: \/proc did not show/);
  });

  it('has the fields that were promised to machines', () => {
    expect(Object.keys(judge(proven)).filter((key) => key !== 'problems')).toEqual([
      ...[
        'ok',
        'viaPowerShell',
        'powershell',
        'guest',
        'guestIoErrors',
        'guestMaxLatencyMsBefore',
        'guestMaxLatencyMsDuring',
        'blackoutMs',
      ],
      ...[
        'blocksChecked',
        'blocksWrong',
        'sourceGone',
        'bytesCopied',
        'bytesRecopied',
        'bytesMirrored',
        'bytesVerified',
        'seconds',
        'receipt',
      ],
    ]);
  });
});

describe('progress', () => {
  it('leaves out what is not known', () => {
    expect(renderProgress({ phase: 'copy', percent: 37.9, bytesPerSecond: 412e6, secondsRemaining: 3, guestP99Us: 1234 })).toBe(
      '  [#########...............]   37 %  copy            412 MB/s  3 s left  guest p99 1.2 ms',
    );
    expect(renderProgress({ phase: 'queued', percent: 0, bytesPerSecond: null, secondsRemaining: null, guestP99Us: null })).toMatch(
      /queued\s*$/,
    );
  });
});
