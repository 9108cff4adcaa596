/**
 * The machines of one provider that are not off, and their states: what QEMU (qemu.ts) and the built-in guest (built-in.ts) have in common
 * as processes that outlive the host. How such a process is made, found again and ended is the provider's.
 */
import { VmStorageError } from '../model/errors.js';
import type { VmConfiguration, VmState } from '../model/vm.js';
import type { ProcessIdentity, Processes } from '../os/processes.js';
import type { VmRuntime } from './hypervisor.js';

export interface Machine {
  readonly vmId: string;
  /** Changed by `MachineTable.enter` only, which tells the listeners. */
  state: VmState;
  process: ProcessIdentity | null;
  startedAt: string | null;
  accelerator: VmRuntime['accelerator'];
  trouble: string | null;
}

export const machineThatIsOff = (vmId: string): Machine => ({
  vmId,
  state: 'Off',
  process: null,
  startedAt: null,
  accelerator: null,
  trouble: null,
});

export const notInThisState = (vmId: string): VmStorageError =>
  new VmStorageError('InvalidState', 'The operation cannot be performed while the virtual machine is in its current state.', {
    target: vmId,
  });

export class MachineTable<M extends Machine> {
  readonly #machines = new Map<string, M>();
  readonly #ending = new WeakMap<M, Promise<void>>();
  readonly #listeners = new Set<(vmId: string, state: VmState) => void>();

  get(vmId: string): M | undefined {
    return this.#machines.get(vmId);
  }

  all(): Iterable<M> {
    return this.#machines.values();
  }

  /** False once it is gone, also when its machine has been started again since. */
  has(machine: M): boolean {
    return this.#machines.get(machine.vmId) === machine;
  }

  state(vmId: string): VmState {
    return this.#machines.get(vmId)?.state ?? 'Off';
  }

  runtime(vmId: string, processes: Processes): VmRuntime {
    const { state, process, startedAt, accelerator, trouble } = this.#machines.get(vmId) ?? machineThatIsOff(vmId);
    return {
      state,
      startedAt,
      accelerator,
      trouble,
      pid: process?.pid ?? null,
      processorTimeMs: process ? processes.processorTimeMs(process) : null,
    };
  }

  subscribe(listener: (vmId: string, state: VmState) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  enter(machine: M, state: VmState): void {
    if (machine.state === state) return;
    machine.state = state;
    for (const listener of this.#listeners) listener(machine.vmId, state);
  }

  /** Takes up the machine of a VM that is off and starts it. If `launch` fails, `giveUp` ends what there is of it. */
  async start(vm: VmConfiguration, machine: M, launch: () => Promise<void>, giveUp: () => Promise<void>): Promise<void> {
    if (this.state(vm.id) !== 'Off')
      throw new VmStorageError('InvalidState', `Virtual machine "${vm.name}" is not off.`, { target: vm.name });
    this.#machines.set(vm.id, machine);
    this.enter(machine, 'Starting');
    try {
      await launch();
    } catch (error) {
      await giveUp();
      throw error instanceof VmStorageError
        ? error
        : new VmStorageError(
            'HypervisorFailure',
            `Virtual machine "${vm.name}" could not be started: ${error instanceof Error ? error.message : String(error)}.`,
            { target: vm.name, cause: error },
          );
    }
  }

  /** Takes up a machine whose process an earlier host left running. */
  adopt(machine: M): void {
    this.#machines.set(machine.vmId, machine);
    this.enter(machine, 'Running');
  }

  /**
   * Forgets a machine whose process is gone, then removes what it left behind, and only then calls it off. Once per machine: whoever comes
   * second (a turn-off and the news that the process is gone meet here) waits for the first.
   */
  ended(machine: M, removeLeftovers: () => Promise<void>): Promise<void> {
    const known = this.#ending.get(machine);
    if (known || !this.has(machine)) return known ?? Promise.resolve();
    this.#machines.delete(machine.vmId);
    const ending = removeLeftovers().then(() => this.enter(machine, 'Off'));
    this.#ending.set(machine, ending);
    return ending;
  }

  clear(): void {
    this.#machines.clear();
  }
}
