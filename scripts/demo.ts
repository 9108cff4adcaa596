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
import { ProgressLine, type ProgressFigures } from './demo/progress-line.js';
import { judge, renderReport, type DemoFindings } from './demo/report.js';
import { startMachineFor, tellStory } from './demo/story.js';
import { leaveToPerson } from './demo/wizard.js';

const { json, noPowerShell, keep, wizard } = readCommandLine(
  {
    name: 'demo',
    says: 'Moves the disks of a real running VM, end to end, and proves it; leaves nothing behind, however it ends',
    options: {
      json: { says: 'prints one JSON document (scripts/demo/report.ts) instead of the report; the story goes to standard error' },
      'no-powershell': { says: 'drives the cmdlets by the vmstorage command, as on a machine without PowerShell' },
      wizard: { says: 'starts the machine and leaves it to you: prints a link to the Move Wizard, and runs until Ctrl+C' },
      keep: { says: 'leaves the folder for looking at; no process is left in any case' },
    },
    exit: '0 only when the move is proven, or the wizard was ended by Ctrl+C; 1 when not, 2 for a wrong argument, 130 after Ctrl+C',
  },
  (line) => {
    if (line.has('wizard') && line.has('json')) throw line.wrong('--wizard is for a person: it has no JSON document');
    return { json: line.has('json'), noPowerShell: line.has('no-powershell'), keep: line.has('keep'), wizard: line.has('wizard') };
  },
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

async function run(): Promise<DemoFindings> {
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
    const stage = {
      ...{ home, slow: join(folder, 'slow'), fast: join(folder, 'fast'), work: folder, shell, say, stopped: stop.signal },
      builtIn: whyBuiltIn !== null,
      progress: (figures: ProgressFigures) => line.show(figures),
      progressEnded: () => line.end(),
    };
    if (wizard) {
      const name = await Promise.race([startMachineFor(stage), stopped]);
      say(`The machine "${name}" runs on ${stage.slow}. Move its storage to ${stage.fast}, or wherever you like.`);
      await leaveToPerson(host.environment, stop.signal);
    } else findings = await Promise.race([tellStory(stage), stopped]);
  } catch (error) {
    troubles.push(error instanceof Error ? error.message : String(error));
    if (host && host.output !== '') troubles.push(`the host said:\n${host.output}`);
  } finally {
    // A person leaves the guest running; a story that is told to its end does not.
    const told = troubles.length === 0 && !wizard;
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
  return { ...findings, troubles: [...findings.troubles, ...troubles] };
}

const found = await run();
if (wizard) {
  for (const trouble of found.troubles) say(`demo: ${trouble}`);
  process.exitCode = found.troubles.length === 0 ? 0 : 1;
} else {
  const report = judge(found);
  process.stdout.write(json ? `${JSON.stringify(report, null, 2)}\n` : renderReport(report));
  process.exitCode = stop.signal.aborted ? 130 : report.ok ? 0 : 1;
}
