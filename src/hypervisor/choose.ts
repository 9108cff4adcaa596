/**
 * Which provider starts machines here, and which one a running machine belongs to: a host that is started again with another choice must
 * not take a machine of the other provider for one that is off.
 *
 * | VMSTORAGE_HYPERVISOR | starts machines with                                                              |
 * | -------------------- | --------------------------------------------------------------------------------- |
 * | not set, qemu        | QEMU; without one Start-VM is refused and says what to install                    |
 * | built-in             | the built-in test guest (built-in.ts), with a warning: it writes all over the disks |
 *
 * The built-in guest is never chosen because QEMU is missing: a person who starts a machine with data on it would lose the data.
 */
import { VmStorageError } from '../model/errors.js';
import type { VmConfiguration, VmState } from '../model/vm.js';
import { BuiltInHypervisor } from './built-in.js';
import type { Hypervisor, StartOptions, VmRuntime } from './hypervisor.js';
import { QemuHypervisor, type QemuOptions } from './qemu.js';

export function chooseHypervisor(options: QemuOptions): Hypervisor {
  const choice = options.environment['VMSTORAGE_HYPERVISOR'] || 'qemu';
  const [qemu, builtIn] = [new QemuHypervisor(options), new BuiltInHypervisor(options)];
  if (choice === 'qemu') return new ChosenHypervisor(qemu, builtIn);
  if (choice === 'built-in') return new ChosenHypervisor(builtIn, qemu);
  throw new VmStorageError('InvalidParameter', `VMSTORAGE_HYPERVISOR is '${choice}'; it can be qemu or built-in.`);
}

export class ChosenHypervisor implements Hypervisor {
  readonly remark: string | null;

  constructor(
    private readonly chosen: Hypervisor,
    private readonly other: Hypervisor,
  ) {
    this.remark = chosen.remark;
  }

  state(vmId: string): VmState {
    return this.#of(vmId).state(vmId);
  }

  runtime(vmId: string): VmRuntime {
    return this.#of(vmId).runtime(vmId);
  }

  start(vm: VmConfiguration, options?: StartOptions): Promise<void> {
    return this.#of(vm.id).start(vm, options);
  }

  shutDown(vmId: string, timeoutMs: number, signal?: AbortSignal): Promise<boolean> {
    return this.#of(vmId).shutDown(vmId, timeoutMs, signal);
  }

  turnOff(vmId: string): Promise<void> {
    return this.#of(vmId).turnOff(vmId);
  }

  pause(vmId: string): Promise<void> {
    return this.#of(vmId).pause(vmId);
  }

  resume(vmId: string): Promise<void> {
    return this.#of(vmId).resume(vmId);
  }

  async adopt(vmId: string): Promise<VmState> {
    const state = await this.chosen.adopt(vmId);
    return state === 'Off' ? this.other.adopt(vmId) : state;
  }

  subscribe(listener: (vmId: string, state: VmState) => void): () => void {
    const both = [this.chosen.subscribe(listener), this.other.subscribe(listener)];
    return () => both.forEach((unsubscribe) => unsubscribe());
  }

  close(): void {
    this.chosen.close();
    this.other.close();
  }

  /** The provider that has the machine now; the chosen one for a machine that is off. */
  #of(vmId: string): Hypervisor {
    return this.other.state(vmId) === 'Off' ? this.chosen : this.other;
  }
}
