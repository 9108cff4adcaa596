/** What the demo says at the end: the JSON document, when it counts as proof, and the same for people. Pure. */
import type { DiskReceipt } from '../../src/model/move.js';

export type GuestKind = 'qemu-tcg' | 'qemu-kvm' | 'built-in';

/** The document of `--json`. Times in ms unless the name says otherwise; a figure that was not measured is null, never 0. */
export interface DemoReport {
  readonly ok: boolean;
  /** The module's DLL in a pwsh process spoke to the host itself, no child process in between; null when /proc did not show it. */
  readonly viaPowerShell: boolean | null;
  readonly powershell: { readonly version: string; readonly host: string } | null;
  readonly guest: GuestKind | null;
  readonly guestIoErrors: number | null;
  /** Longest single request of the guest at rest before the move, and from the move's start to its end. */
  readonly guestMaxLatencyMsBefore: number | null;
  readonly guestMaxLatencyMsDuring: number | null;
  /** Longest time the reactor held any request for the switch's sake, over all disks. */
  readonly blackoutMs: number | null;
  /** 4 KiB blocks of the target compared byte by byte by a reader that is not the engine's, and those that were not right. */
  readonly blocksChecked: number;
  readonly blocksWrong: number;
  readonly sourceGone: boolean;
  readonly bytesCopied: number | null;
  readonly bytesRecopied: number | null;
  readonly bytesMirrored: number | null;
  readonly bytesVerified: number | null;
  /** Of the move, from the cmdlet's start to its end. */
  readonly seconds: number | null;
  readonly receipt: readonly DiskReceipt[] | null;
  /** Why it is not proven; empty when it is. */
  readonly problems: readonly string[];
}

/** Everything of the report but the verdict. */
export type DemoFindings = Omit<DemoReport, 'ok' | 'problems'> & {
  /** Requests the guest completed after the switch: it went on. */
  readonly guestRequestsAfter: number;
  /** Disks that were moved; 0 = it did not come to that. */
  readonly disks: number;
  /** What a part of the demo could not do or saw, in its own words. */
  readonly troubles: readonly string[];
};

/** Proven means that every one of these was seen; nothing is assumed from silence. */
export function judge(findings: DemoFindings): DemoReport {
  const { guestRequestsAfter, disks, troubles, ...figures } = findings;
  const problems = [...troubles];
  // A story that was not told to its end has said why; what it therefore did not see adds nothing.
  if (disks === 0) return { ok: false, ...figures, problems: problems.length > 0 ? problems : ['it was not told to its end'] };
  const demand = (seen: boolean, problem: string): void => {
    if (!seen) problems.push(problem);
  };
  demand(figures.guest !== null, 'no guest ran');
  demand(figures.guestIoErrors === 0, `the guest saw ${figures.guestIoErrors ?? 'an unknown number of'} I/O errors`);
  demand(guestRequestsAfter > 0, 'the guest completed no request after the move');
  demand(figures.blocksChecked > 0, 'no block was checked');
  demand(figures.blocksWrong === 0, `${figures.blocksWrong} of ${figures.blocksChecked} blocks are wrong`);
  demand(figures.sourceGone, 'a source file is still there');
  demand(figures.blackoutMs !== null, 'the length of the switch was not measured');
  demand(figures.receipt?.length === disks, `there are receipts for ${figures.receipt?.length ?? 0} of ${disks} disks`);
  demand((figures.bytesVerified ?? 0) > 0, 'the move verified nothing');
  return { ok: problems.length === 0, ...figures, problems };
}

/** Over all looks at the shell's process while the move ran: each has to have seen it. */
export function wasDirect(looks: readonly (boolean | null)[]): boolean | null {
  if (looks.includes(false)) return false;
  return looks.length === 0 || looks.includes(null) ? null : true;
}

const MIB = 1024 * 1024;
const mib = (bytes: number | null): string => (bytes === null ? 'not known' : `${(bytes / MIB).toFixed(0)} MiB`);
const ms = (value: number | null): string => (value === null ? 'not measured' : `${value < 10 ? value.toFixed(2) : value.toFixed(0)} ms`);

const directness: { readonly [viaPowerShell: string]: string } = {
  true: '',
  false: ', but not directly',
  null: '; whether directly is not known: /proc did not show its process',
};

export function renderReport(report: DemoReport): string {
  const { receipt } = report;
  const reasons = report.problems.map((problem) => `  - ${problem}`).join('\n');
  if (report.guest === null) return `\nNOT PROVEN, and not told to its end:\n${reasons}\n`;
  const way = report.powershell
    ? `PowerShell ${report.powershell.version} (${report.powershell.host})${directness[String(report.viaPowerShell)]}`
    : 'the vmstorage command; there is no PowerShell here';
  const rows: [string, string][] = [
    ['cmdlets run by', way],
    ['guest', report.guest ?? 'none'],
    ['guest I/O errors', String(report.guestIoErrors ?? 'not known')],
    ['longest guest wait', `${ms(report.guestMaxLatencyMsDuring)} while moving, ${ms(report.guestMaxLatencyMsBefore)} before`],
    ['switch held requests for', ms(report.blackoutMs)],
    ['blocks checked', `${report.blocksChecked} on the target, byte by byte, ${report.blocksWrong} wrong`],
    ['source', report.sourceGone ? 'gone' : 'STILL THERE'],
    [
      'copied',
      `${mib(report.bytesCopied)}, again ${mib(report.bytesRecopied)}, mirrored ${mib(report.bytesMirrored)}, verified ${mib(report.bytesVerified)}`,
    ],
    ['took', report.seconds === null ? 'not known' : `${report.seconds.toFixed(1)} s`],
    ...(receipt ?? []).map((disk): [string, string] => [
      `receipt of disk ${disk.disk}`,
      `xxh3-128 ${disk.hash} over ${disk.bytes} bytes, ${disk.target.path}`,
    ]),
  ];
  const width = Math.max(...rows.map(([label]) => label.length));
  const lines = rows.map(([label, value]) => `  ${label.padEnd(width)}  ${value}`);
  const verdict = report.ok ? 'The move is proven.' : `NOT PROVEN:\n${reasons}`;
  return `\n${lines.join('\n')}\n\n${verdict}\n`;
}
