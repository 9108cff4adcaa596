/**
 * The demo's story, one step per line, told to `say`. Every step's failure says which step it was. What it found is returned;
 * cleaning up is the caller's (scripts/demo.ts), who also has to do it when this never returns.
 *
 *   disks -> VM -> start -> guest at rest -> move (progress) -> guest goes on -> stop -> check every byte -> source gone?
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { DiskReceipt } from '../../src/model/move.js';
import { guestKernel } from '../../test/support/guest-kernel.js';
import { GuestConsole } from '../../test/support/guest.js';
import { markedProcesses } from '../../test/support/leftovers.js';
import { checkByLedger } from './built-in-guest.js';
import type { CmdletOutput, CmdletParameters, CmdletShell } from './cmdlet-shell.js';
import { checkDisk, fillImage, makeSeed, SPAN_MIB, type ImageFormat } from './disks.js';
import type { ProgressFigures } from './progress-line.js';
import { wasDirect, type DemoFindings, type GuestKind } from './report.js';

const MIB = 1024 * 1024;
const VM_NAME = 'demo';
const MEMORY_BYTES = 256 * MIB;
/** And so four queues of each disk. */
const PROCESSORS = 4;
/** About 15 % of what such a guest can do under emulation: latencies are then the disks', not the guest's own queue. */
const GUEST_OPTIONS = `w.span=${SPAN_MIB} w.qd=4 w.iops=300 w.fsync=4`;
/** Seconds at rest before the move and after it. */
const REST_S = 5;
const AFTER_S = 3;
const PROGRESS_EACH_MS = 250;
/** A move of 1.5 GiB takes seconds; a machine so slow that it needs minutes has something wrong with it. */
const MOVE_LIMIT_MS = 5 * 60_000;

interface DemoDisk {
  readonly leaf: string;
  readonly format: ImageFormat;
  readonly sizeBytes: number;
  /** The guest's name for it. */
  readonly guestName: string;
}
const disks: readonly DemoDisk[] = [
  { leaf: 'system.vhdx', format: 'vhdx', sizeBytes: 1024 * MIB, guestName: 'vda' },
  { leaf: 'data.img', format: 'raw', sizeBytes: 512 * MIB, guestName: 'vdb' },
];

export interface Stage {
  /** VMSTORAGE_HOME of the demo's host. */
  readonly home: string;
  /** Where the VM's storage is, where it goes to, and where working files may lie. */
  readonly slow: string;
  readonly fast: string;
  readonly work: string;
  readonly shell: CmdletShell;
  /** The host runs the built-in guest (scripts/demo/built-in-guest.ts) instead of a real one. */
  readonly builtIn?: boolean;
  readonly say: (text: string) => void;
  readonly progress: (figures: ProgressFigures) => void;
  readonly progressEnded: () => void;
  /** Aborted by Ctrl+C. */
  readonly stopped: AbortSignal;
}

/** Runs one step; its failure is told with the step's name. */
async function step<T>(stage: Stage, what: string, work: () => Promise<T>): Promise<T> {
  stage.stopped.throwIfAborted();
  stage.say(what);
  try {
    return await work();
  } catch (cause) {
    if (stage.stopped.aborted) throw cause;
    throw new Error(`${what}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}

/** The machine of the demo: two disks with content, started. Returns the files it is made of. */
async function startMachine(stage: Stage): Promise<{ readonly seeds: readonly string[]; readonly sourceFiles: readonly string[] }> {
  const { shell, slow, fast } = stage;
  const seeds = disks.map(({ leaf }) => join(stage.work, `${leaf}.seed`));

  const content = stage.builtIn ? 'both blank' : 'each with 256 MiB of random data';
  await step(stage, `New-VHD: a dynamic VHDX of 1 GiB and a raw disk of 512 MiB, ${content}`, async () => {
    await mkdir(slow, { recursive: true });
    await mkdir(fast, { recursive: true });
    for (const [i, { leaf, format, sizeBytes }] of disks.entries()) {
      await shell.run('New-VHD', { Path: join(slow, leaf), SizeBytes: sizeBytes, [format === 'vhdx' ? 'Dynamic' : 'Fixed']: true });
      // The built-in guest knows what every byte of its disks may be, also of those it never wrote.
      if (stage.builtIn) continue;
      await makeSeed(seeds[i]!, sizeBytes);
      await fillImage(seeds[i]!, join(slow, leaf), format);
    }
  });

  await step(stage, `New-VM ${VM_NAME}, Set-VM -ProcessorCount ${PROCESSORS}, Add-VMHardDiskDrive`, async () => {
    await shell.run('New-VM', {
      Name: VM_NAME,
      MemoryStartupBytes: MEMORY_BYTES,
      Path: slow,
      VHDPath: join(slow, disks[0]!.leaf),
      ...(stage.builtIn ? {} : kernelParameters()),
    });
    await shell.run('Set-VM', { Name: VM_NAME, ProcessorCount: PROCESSORS });
    for (const { leaf } of disks.slice(1)) await shell.run('Add-VMHardDiskDrive', { VMName: VM_NAME, Path: join(slow, leaf) });
  });
  const sourceFiles = filesBelow(slow);

  await step(
    stage,
    `Start-VM: ${stage.builtIn ? 'the built-in' : 'a Linux'} guest that keeps writing checksummed blocks with fsync to both disks`,
    () => shell.run('Start-VM', { Name: VM_NAME }),
  );
  return { seeds, sourceFiles };
}

/** For a person who wants to move it: the machine, running. Resolves with its name once its guest has booted. */
export async function startMachineFor(stage: Stage): Promise<string> {
  await startMachine(stage);
  await using guest = new GuestConsole(consoleOf(stage.home));
  await step(stage, 'waiting for the guest', () => guest.ready(1, stage.stopped));
  return VM_NAME;
}

export async function tellStory(stage: Stage): Promise<DemoFindings> {
  const { shell, fast, home } = stage;
  const troubles: string[] = [];
  const { seeds, sourceFiles } = await startMachine(stage);
  await using guest = new GuestConsole(consoleOf(home));
  const abortGuest = stage.stopped;
  const ready = await step(stage, 'waiting for the guest', () => guest.ready(1, abortGuest));
  const kind = guestKind(home);
  stage.say(
    `  ${kind ?? 'guest of an unknown kind'}, booted in ${(ready.ms / 1000).toFixed(1)} s, ${ready.cpus} processors, ${ready.disks} disks`,
  );
  if (ready.disks !== disks.length) troubles.push(`the guest found ${ready.disks} of ${disks.length} disks`);
  for (const line of guest.lines) {
    if (line.ev !== 'disk') continue;
    if (line.cache !== 'write back') troubles.push(`the guest takes ${line.disk} for "${line.cache}": its flushes do not reach us`);
    if (line.queues !== PROCESSORS) troubles.push(`the guest uses ${line.queues} queues of ${line.disk}, not ${PROCESSORS}`);
  }
  const restFrom = guest.here;
  await step(stage, `the guest at rest for ${REST_S} s`, () => guest.goesOn(REST_S));
  const before = guest.spell(restFrom);
  stage.say(`  longest request ${before.maxLatencyMs.toFixed(1)} ms in ${before.requests} requests`);

  const moveFrom = guest.here;
  const started = Date.now();
  const { viaPowerShell } = await step(stage, `Move-VMStorage ${VM_NAME} -DestinationStoragePath ${fast}`, () => moveWithProgress(stage));
  const seconds = (Date.now() - started) / 1000;
  // The second in which the move ended is told a moment later; it belongs to the move.
  const ended = guest.here;
  await step(stage, `the guest goes on for ${AFTER_S} s`, () => guest.goesOn(AFTER_S));
  const lastOfMove = guest.lines.findIndex((line, i) => i >= ended && line.ev === 'second' && line.disk === disks.at(-1)!.guestName) + 1;
  const during = guest.spell(moveFrom, lastOfMove);
  const after = guest.spell(ended);
  stage.say(`  longest request while moving ${during.maxLatencyMs.toFixed(1)} ms, ${during.requests} requests`);

  const [move] = await step(stage, 'Get-VMStorageMove', () => shell.run('Get-VMStorageMove', { Name: VM_NAME }, moveProperties));
  if (move?.Outcome !== 'Completed')
    troubles.push(`the move's outcome is ${String(move?.Outcome ?? 'not known')}: ${String(move?.Message ?? '')}`);

  const stopFrom = guest.here;
  await step(stage, 'Stop-VM: power button; the guest reads all its blocks back', () => shell.run('Stop-VM', { Name: VM_NAME }));
  const { verified, tables } = await step(stage, "waiting for the guest's last words", () => guest.done(stopFrom, abortGuest));
  const counts = guest.errorCounts;
  for (const fault of guest.faults) troubles.push(`the guest says ${JSON.stringify(fault)}`);
  const told = stage.builtIn ? verified.length : Math.min(verified.length, tables.length);
  if (told !== disks.length) troubles.push(`the guest told of ${told} of ${disks.length} disks`);

  const targets = await step(stage, 'Get-VM, Get-VMHardDiskDrive: where the VM has its storage now', () => targetsOf(stage, troubles));
  const check = { blocksChecked: 0, blocksWrong: counts.mismatches };
  for (const [i, { leaf, format, guestName }] of disks.entries()) {
    const target = targets.find((path) => path.endsWith(`/${leaf}`));
    const table = tables.find(({ disk }) => disk === guestName);
    if (target === undefined || (table === undefined && !stage.builtIn)) continue;
    const plain = join(stage.work, `${leaf}.plain`);
    const result = await step(stage, `every byte of ${target}${stage.builtIn ? " against the guest's ledger" : ', read by qemu-img'}`, () =>
      table === undefined
        ? checkByLedger(target, format, dirname(consoleOf(home)), i, plain)
        : checkDisk(target, format, table, seeds[i]!, plain),
    );
    check.blocksChecked += result.blocksChecked;
    check.blocksWrong += result.blocksWrong;
    troubles.push(...result.findings);
  }
  const kept = sourceFiles.filter((path) => existsSync(path));
  for (const path of kept) troubles.push(`${path} is still there`);

  await step(stage, 'Remove-VM', () => shell.run('Remove-VM', { Name: VM_NAME, Force: true }));

  return {
    viaPowerShell,
    powershell: shell.powershell,
    guest: kind,
    guestIoErrors: counts.errors,
    guestMaxLatencyMsBefore: before.maxLatencyMs,
    guestMaxLatencyMsDuring: during.maxLatencyMs,
    blackoutMs: numberOf(move?.BlackoutUs, 1000),
    ...check,
    sourceGone: kept.length === 0 && sourceFiles.length > disks.length,
    bytesCopied: numberOf(move?.BytesCopied),
    bytesRecopied: numberOf(move?.BytesRecopied),
    bytesMirrored: numberOf(move?.BytesMirrored),
    bytesVerified: numberOf(move?.BytesVerified),
    seconds,
    receipt: receiptOf(move),
    guestRequestsAfter: after.requests,
    disks: disks.length,
    troubles,
  };
}

const progressProperties = ['Phase', 'PercentComplete', 'BytesPerSecond', 'SecondsRemaining', 'GuestP99Us', 'Outcome', 'Message'];
const moveProperties = [...progressProperties, 'BytesCopied', 'BytesRecopied', 'BytesMirrored', 'BytesVerified', 'BlackoutUs', 'Receipt'];

/** Runs the move and shows how it gets on, by the same shell, until it has ended. */
async function moveWithProgress(stage: Stage): Promise<{ viaPowerShell: boolean | null }> {
  const { shell, fast } = stage;
  const running = await shell.start('Move-VMStorage', { Name: VM_NAME, DestinationStoragePath: fast });
  const limit = Date.now() + MOVE_LIMIT_MS;
  const looks: (boolean | null)[] = [];
  try {
    while (await running.isRunning()) {
      if (stage.stopped.aborted) {
        await shell.run('Stop-VMStorageMove', { Name: VM_NAME }).catch((error: unknown) => stage.say(`  ${String(error)}`));
        stage.stopped.throwIfAborted();
      }
      if (Date.now() > limit) throw new Error(`it has not ended after ${MOVE_LIMIT_MS / 60_000} minutes`);
      looks.push(await shell.speaksItself());
      const [move] = await shell.run('Get-VMStorageMove', { Name: VM_NAME }, progressProperties);
      if (move !== undefined) {
        stage.progress({
          phase: String(move.Phase),
          percent: numberOf(move.PercentComplete) ?? 0,
          bytesPerSecond: numberOf(move.BytesPerSecond),
          secondsRemaining: numberOf(move.SecondsRemaining),
          guestP99Us: numberOf(move.GuestP99Us),
        });
      }
      await new Promise((resolve) => setTimeout(resolve, PROGRESS_EACH_MS));
    }
  } finally {
    stage.progressEnded();
  }
  await running.result();
  return { viaPowerShell: shell.powershell === null ? false : wasDirect(looks) };
}

/** Where the VM says its disks are; each has to be below the destination, under Hyper-V's folder for disks. */
async function targetsOf(stage: Stage, troubles: string[]): Promise<string[]> {
  const { shell, fast } = stage;
  const drives = await shell.run('Get-VMHardDiskDrive', { VMName: VM_NAME }, ['Path']);
  const targets = drives.map(({ Path: path }) => String(path));
  for (const { leaf } of disks) {
    const wanted = join(fast, 'Virtual Hard Disks', leaf);
    if (!targets.includes(wanted)) troubles.push(`the VM has no disk ${wanted}; its disks are ${targets.join(', ') || 'none'}`);
  }
  const [vm] = await shell.run('Get-VM', { Name: VM_NAME }, ['State', 'Path']);
  if (vm?.State !== 'Off') troubles.push(`the VM is ${String(vm?.State)} after Stop-VM`);
  if (vm?.Path !== fast) troubles.push(`the VM's configuration is in ${String(vm?.Path)}`);
  return targets;
}

/** Boots the test guest. */
function kernelParameters(): CmdletParameters {
  const { kernel, initrd } = guestKernel();
  return { KernelPath: kernel, InitialRamdiskPath: initrd, KernelArguments: `quiet panic=-1 ${GUEST_OPTIONS}` };
}

/** The console of the only VM of this host. */
function consoleOf(home: string): string {
  const logs = join(home, 'logs');
  const [machine] = readdirSync(logs, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  if (!machine) throw new Error(`There is no folder for the VM's console in ${logs}.`);
  return join(logs, machine.name, 'console.log');
}

/** What runs the guest, seen at the process itself. */
function guestKind(home: string): GuestKind | null {
  for (const pid of markedProcesses(home, [process.pid], 'VMSTORAGE_HOME')) {
    let words: string[];
    try {
      words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    } catch {
      continue; // ended meanwhile
    }
    if (words.some((word) => word.endsWith('/built-in-guest.js'))) return 'built-in';
    if (!words[0]?.includes('qemu-system')) continue;
    return words.some((word) => word === 'kvm' || word.startsWith('kvm,') || word.includes('accel=kvm')) ? 'qemu-kvm' : 'qemu-tcg';
  }
  return null;
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name));
}

/** A figure of the host: a number, or a decimal string on the wire; null when it was not measured. */
function numberOf(value: unknown, divisor = 1): number | null {
  const number = typeof value === 'string' && value !== '' ? Number(value) : value;
  return typeof number === 'number' && Number.isFinite(number) ? number / divisor : null;
}

function receiptOf(move: CmdletOutput | undefined): readonly DiskReceipt[] | null {
  return typeof move?.Receipt === 'string' ? (JSON.parse(move.Receipt) as DiskReceipt[]) : null;
}
