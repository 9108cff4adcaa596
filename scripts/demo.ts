/**
 * `npm run demo`: moves the disks of a real running VM, end to end, and proves it. Starts a host in a folder of its own, runs
 * everything by the cmdlets, checks every byte, and leaves nothing behind, however it ends. `--help` says what it takes.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SCRATCH_PREFIX } from '../test/support/scratch.js';
import { readCommandLine } from './command-line.js';
import { builtInEnvironment, noRealGuest } from './demo/built-in-guest.js';
import { CommandLineShell, type CmdletShell } from './demo/cmdlet-shell.js';
import { DemoHost, endProcessesOf } from './demo/demo-host.js';
import { openPowerShell } from './demo/powershell-shell.js';
import { ProgressLine } from './demo/progress-line.js';
import { judge, renderReport, type DemoFindings, type DemoReport } from './demo/report.js';
import { tellStory } from './demo/story.js';

const { json, noPowerShell, keep } = readCommandLine(
  {
    name: 'demo',
    says: 'Moves the disks of a real running VM, end to end, and proves it; leaves nothing behind, however it ends',
    options: {
      json: { says: 'prints one JSON document (scripts/demo/report.ts) instead of the report; the story goes to standard error' },
      'no-powershell': { says: 'drives the cmdlets by the vmstorage command, as on a machine without PowerShell' },
      keep: { says: 'leaves the folder for looking at; no process is left in any case' },
    },
    exit: '0 only when the move is proven, 1 when it is not, 2 for a wrong argument, 130 after Ctrl+C',
  },
  (line) => ({ json: line.has('json'), noPowerShell: line.has('no-powershell'), keep: line.has('keep') }),
);
/** Once its VM is removed, a worker ends by itself. */
const WORKERS_END_MS = 5000;
/** The story; with --json standard output belongs to the document. */
const out = json ? process.stderr : process.stdout;
const say = (text: string): void => void out.write(`${text}\n`);

const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    if (stop.signal.aborted) return;
    say('\nstopping and cleaning up ...');
    stop.abort(new Error(`stopped by ${signal}`));
  });
}

/** What is known when the story was not told to its end. */
const nothing: DemoFindings = {
  ...{
    viaPowerShell: false,
    powershell: null,
    guest: null,
    guestIoErrors: null,
    guestMaxLatencyMsBefore: null,
    guestMaxLatencyMsDuring: null,
  },
  ...{ blackoutMs: null, blocksChecked: 0, blocksWrong: 0, sourceGone: false, bytesCopied: null, bytesRecopied: null, bytesMirrored: null },
  ...{ bytesVerified: null, seconds: null, receipt: null, guestRequestsAfter: 0, disks: 0, troubles: [] },
};

/** Rejects when Ctrl+C came, so that no step has to be waited for. */
const stopped = new Promise<never>((_, reject) =>
  stop.signal.addEventListener('abort', () => reject(stop.signal.reason as Error), { once: true }),
);
stopped.catch(() => undefined);

async function run(): Promise<DemoReport> {
  const folder = mkdtempSync(join(tmpdir(), `${SCRATCH_PREFIX}demo-`));
  const home = join(folder, 'home');
  mkdirSync(home, { mode: 0o700 });
  let host: DemoHost | null = null;
  let shell: CmdletShell | null = null;
  let findings = nothing;
  const troubles: string[] = [];
  try {
    const whyBuiltIn = noRealGuest();
    if (whyBuiltIn !== null) say(`${whyBuiltIn}: the built-in guest runs instead of a real one`);
    say(`host in ${home}`);
    host = await DemoHost.start(home, whyBuiltIn === null ? {} : builtInEnvironment);
    shell = noPowerShell ? new CommandLineShell(host.environment) : await openPowerShell(host.environment, say);
    say(
      shell.powershell
        ? `cmdlets by PowerShell ${shell.powershell.version} (${shell.powershell.host})`
        : 'cmdlets by the vmstorage command',
    );
    const line = new ProgressLine(out);
    const story = tellStory({
      ...{ home, slow: join(folder, 'slow'), fast: join(folder, 'fast'), work: folder, shell, say, stopped: stop.signal },
      builtIn: whyBuiltIn !== null,
      progress: (figures) => line.show(figures),
      progressEnded: () => line.end(),
    });
    findings = await Promise.race([story, stopped]);
  } catch (error) {
    troubles.push(error instanceof Error ? error.message : String(error));
    if (host && host.output !== '') troubles.push(`the host said:\n${host.output}`);
  } finally {
    const told = troubles.length === 0;
    if (!told) say('cleaning up ...');
    // Each of these must be tried, whatever the others do.
    const ends: [string, () => Promise<unknown>][] = [
      ['the shell', async () => shell?.[Symbol.asyncDispose]()],
      [
        'the host',
        async () => {
          const left = host ? await host.end(told ? WORKERS_END_MS : 0) : await endProcessesOf(home);
          // After a failure the guest is still running; after a story told to its end nothing may be.
          if (told) troubles.push(...left.map(({ what }) => `left behind: ${what}`));
        },
      ],
    ];
    for (const [what, end] of ends) {
      try {
        await end();
      } catch (error) {
        troubles.push(`${what} did not end: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
    if (keep) say(`kept: ${folder}`);
    else rmSync(folder, { recursive: true, force: true });
  }
  return judge({ ...findings, troubles: [...findings.troubles, ...troubles] });
}

const report = await run();
if (json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
else process.stdout.write(renderReport(report));
process.exitCode = stop.signal.aborted ? 130 : report.ok ? 0 : 1;
