/**
 * The port to whatever runs guests: QEMU (qemu.ts) or, for tests, the built-in guest (built-in.ts); choose.ts has both behind one port.
 *
 * ```text
 *            start                 the guest runs                 powerdown, quit
 *   Off ──────────────▶ Starting ───────────────▶ Running ───────────────────────▶ Stopping
 *    ▲                     │                      │  ▲   │                            │
 *    │                     │ failed         pause ▼  │   │ i/o error                  │
 *    │                     │                   Paused┘   ▼                            │
 *    │                     │                      │   RunningCritical                 │
 *    └─────────────────────┴──────────────────────┴──────┴── the process is gone ─────┘
 * ```
 */
import type { VmConfiguration, VmState } from '../model/vm.js';

export interface VmRuntime {
  readonly state: VmState;
  readonly pid: number | null;
  readonly startedAt: string | null;
  readonly accelerator: 'kvm' | 'tcg' | null;
  /** Processor time of the guest's process so far, or null when it is off. */
  readonly processorTimeMs: number | null;
  /** What keeps the provider from controlling the guest (its monitor does not answer ...), or null. */
  readonly trouble: string | null;
}

export interface StartOptions {
  /** What the guest needs before its process is made (a serving worker). Runs in state Starting, so nobody takes the machine for unused. */
  readonly prepare?: () => Promise<void>;
  /** Called with the process's pid once all devices exist and before the guest executes: refuses by throwing. */
  readonly verify?: (pid: number) => Promise<void>;
  /** Told what whoever starts the guest has to know and nothing fails of. */
  readonly warn?: (text: string) => Promise<void>;
  readonly signal?: AbortSignal;
}

export interface Hypervisor {
  /** What a person has to know before a machine is started here, or null: a warning of Start-VM, a verbose line of New-VM. */
  readonly remark: string | null;
  state(vmId: string): VmState;
  runtime(vmId: string): VmRuntime;
  /** Needs a worker that serves (if there is any disk to serve). Resolves when the guest runs; leaves nothing behind when it rejects. */
  start(vm: VmConfiguration, options?: StartOptions): Promise<void>;
  /** Presses the power button and waits; false when the guest did not obey within `timeoutMs`. */
  shutDown(vmId: string, timeoutMs: number, signal?: AbortSignal): Promise<boolean>;
  /** Pulls the plug; resolves when the process is gone. */
  turnOff(vmId: string): Promise<void>;
  pause(vmId: string): Promise<void>;
  resume(vmId: string): Promise<void>;
  /** Finds again what an earlier host left running; call once per VM before anything else. */
  adopt(vmId: string): Promise<VmState>;
  /** Every change of state, in order. */
  subscribe(listener: (vmId: string, state: VmState) => void): () => void;
  /** Lets go of all guests without touching them. */
  close(): void;
}
