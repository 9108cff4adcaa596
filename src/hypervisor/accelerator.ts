/**
 * KVM or TCG. That /dev/kvm opens says little (nested and paravirtual hosts), so both run the same boot sector once per boot of
 * this machine, and KVM is chosen only if it finishes, and sooner. The answer is kept in the state folder under the kernel's boot id.
 */
import { spawn } from 'node:child_process';
import { access, constants, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { VmStorageError } from '../model/errors.js';
import type { Clock } from '../os/clock.js';
import type { Files } from '../os/files.js';
import type { Log } from '../os/log.js';
import { hasCode, reasonOf } from '../os/errno.js';
import { currentBootId } from '../os/processes.js';
import { PROBE_EXIT_CODE, probeImage } from './boot-probe.js';
import type { QemuProgram } from './qemu-program.js';

export interface Accelerator {
  readonly kind: 'kvm' | 'tcg';
  /** -cpu: `host` where that works, else the plainest model; TCG offers what it can. */
  readonly cpu: string;
}

const TCG: Accelerator = { kind: 'tcg', cpu: 'max' };
/** Tried in this order: `host` is refused by some nested hosts. */
const KVM: readonly Accelerator[] = [
  { kind: 'kvm', cpu: 'host' },
  { kind: 'kvm', cpu: 'qemu64' },
];
/** TCG needs 0.6-1 s on an idle machine; one that needs this long is overloaded and its answer is not kept. */
const TCG_LIMIT_MS = 30_000;
/** What KVM is given at most, however slow TCG was. */
const KVM_LIMIT_MS = 5_000;

/** How long the boot sector took, or null if it did not finish in time or at all. */
export type Probe = (accelerator: Accelerator, limitMs: number) => Promise<number | null>;

/** What there is of /dev/kvm: not there (no reason to say anything), there and ours to use, or there and why it is not. */
export type KvmDevice = 'absent' | 'usable' | { readonly refused: string };

export interface Choice {
  readonly accelerator: Accelerator;
  readonly measuredMs: Record<string, number | null>;
  readonly keep: boolean;
  /** Why it is not KVM although there is a /dev/kvm: guests are several times slower than its owner expects. Null otherwise. */
  readonly whyNotKvm: string | null;
}

/** Decides, from `probe` alone. */
export async function chooseAccelerator(kvmDevice: KvmDevice, probe: Probe): Promise<Choice> {
  if (kvmDevice !== 'usable') {
    const whyNotKvm = kvmDevice === 'absent' ? null : `this host may not use it: ${kvmDevice.refused}`;
    return { accelerator: TCG, measuredMs: {}, keep: false, whyNotKvm };
  }
  const tcgMs = await probe(TCG, TCG_LIMIT_MS);
  const measuredMs: Record<string, number | null> = { tcg: tcgMs };
  for (const accelerator of KVM) {
    const limitMs = Math.min(tcgMs ?? KVM_LIMIT_MS, KVM_LIMIT_MS);
    const kvmMs = await probe(accelerator, limitMs);
    measuredMs[`kvm ${accelerator.cpu}`] = kvmMs;
    if (kvmMs !== null && kvmMs < (tcgMs ?? Infinity)) return { accelerator, measuredMs, keep: true, whyNotKvm: null };
  }
  const emulation = tcgMs === null ? 'nor did emulation' : `emulation needed ${Math.round(tcgMs)} ms`;
  const whyNotKvm = `a probe (100 million steps of a 64-bit kernel) did not end sooner with it than without: ${emulation}`;
  return { accelerator: TCG, measuredMs, keep: tcgMs !== null, whyNotKvm };
}

/** The remembered answer for this boot and this QEMU, else a new one. */
export async function accelerator(program: QemuProgram, file: string, files: Files, clock: Clock, log: Log): Promise<Choice> {
  const key = `2 ${currentBootId()} ${program.path} ${program.version}`;
  try {
    const kept = JSON.parse(await files.readText(file)) as Partial<Choice> & { key?: string };
    if (kept.key === key && kept.accelerator) {
      const one = kept.accelerator.kind === 'tcg' ? TCG : (KVM.find(({ cpu }) => cpu === kept.accelerator!.cpu) ?? TCG);
      return { accelerator: one, measuredMs: kept.measuredMs ?? {}, keep: true, whyNotKvm: kept.whyNotKvm ?? null };
    }
  } catch {
    // not there, or not readable: it is only a memory of a measurement
  }
  const image = join(dirname(file), `probe-${process.pid}.img`);
  try {
    const kvmDevice = await lookForKvm();
    if (kvmDevice === 'usable') await writeFile(image, probeImage(), { mode: 0o600 });
    const choice = await chooseAccelerator(kvmDevice, (one, limitMs) => bootProbe(program, one, image, limitMs, clock));
    log.info({ ...choice, kvmDevice }, 'accelerator chosen');
    // Only a memory of a measurement: without room for it the next host measures again.
    if (choice.keep)
      await files
        .replace(file, JSON.stringify({ key, ...choice }, null, 2) + '\n')
        .catch((cause: unknown) => log.warn({ file, reason: reasonOf(cause) }, 'the choice of an accelerator could not be kept'));
    return choice;
  } catch (cause) {
    throw new VmStorageError(
      'HypervisorFailure',
      `Whether KVM works could not be found out: ${cause instanceof Error ? cause.message : String(cause)}.`,
      { cause },
    );
  } finally {
    await rm(image, { force: true });
  }
}

async function lookForKvm(): Promise<KvmDevice> {
  try {
    await access('/dev/kvm', constants.R_OK | constants.W_OK);
    return 'usable';
  } catch (cause) {
    return hasCode(cause, 'ENOENT') ? 'absent' : { refused: reasonOf(cause) };
  }
}

async function bootProbe(program: QemuProgram, one: Accelerator, image: string, limitMs: number, clock: Clock): Promise<number | null> {
  const startedMs = clock.monotonicMs();
  const child = spawn(
    program.path,
    [
      '-nodefaults',
      '-no-user-config',
      '-display',
      'none',
      '-no-reboot',
      '-machine',
      'q35',
      '-m',
      '64M',
      '-accel',
      one.kind === 'kvm' ? 'kvm' : 'tcg,thread=multi',
      '-cpu',
      one.cpu,
      '-blockdev',
      JSON.stringify({ driver: 'file', 'node-name': 'probe', filename: image, 'read-only': true }),
      '-device',
      'virtio-blk-pci,drive=probe,bootindex=1',
      '-device',
      'isa-debug-exit,iobase=0xf4,iosize=4',
    ],
    { stdio: 'ignore' },
  );
  const timer = setTimeout(() => child.kill('SIGKILL'), limitMs);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', resolve);
  }).finally(() => clearTimeout(timer));
  return code === PROBE_EXIT_CODE ? clock.monotonicMs() - startedMs : null;
}
