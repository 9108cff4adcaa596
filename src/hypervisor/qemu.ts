/**
 * QEMU as the hypervisor: one process per machine, in a session of its own, writing to files only, so that the host may die and come back.
 *
 * Nothing about a running machine is written down by us: a new host finds its QEMU in the process table (by machine id, user, and the run
 * folder it works in) and its state at the monitor. States come from the monitor's events; the process's end is seen by the
 * monitor closing and confirmed by /proc.
 */
import { readFile, rm, stat } from 'node:fs/promises';
import { VmStorageError } from '../model/errors.js';
import type { VmConfiguration, VmState } from '../model/vm.js';
import { type Clock, waitUntil } from '../os/clock.js';
import { boundLog } from '../os/bounded-logs.js';
import { type Files, systemFiles } from '../os/files.js';
import type { Log } from '../os/log.js';
import type { InstancePaths } from '../os/paths.js';
import { ownUid } from '../os/own-folder.js';
import { type Origin, type ProcessIdentity, type Processes, startedAt, waitForExit } from '../os/processes.js';
import { accelerator, type Choice } from './accelerator.js';
import { removeBootFiles } from './boot-files.js';
import { type GuestUsers, whyNoPrivateRoot } from './confinement.js';
import { limitFiles } from './file-limit.js';
import type { Hypervisor, StartOptions, VmRuntime } from './hypervisor.js';
import { type Machine, machineThatIsOff, MachineTable, notInThisState } from './machine-table.js';
import { hasSecretArguments } from './qemu-arguments.js';
import { launchQemu } from './qemu-launch.js';
import { findQemu, type QemuProgram } from './qemu-program.js';
import { Qmp, type QmpEvent } from './qmp.js';

/** From exec to an answering monitor with all devices made: below 1 s; a loaded machine gets the benefit of the doubt. */
const MONITOR_LIMIT_MS = 30_000;
/** After `quit` or SIGKILL. */
const EXIT_LIMIT_MS = 10_000;
/** A guest that still boots does not hear the power button, and never hears of that press later. */
const PRESS_AGAIN_MS = 5_000;
/** Between attempts to reach the monitor of a live process again. */
const MONITOR_RETRY_MS = 500;

interface QemuMachine extends Machine {
  qmp: Qmp | null;
}

export interface QemuOptions {
  readonly paths: InstancePaths;
  readonly processes: Processes;
  readonly files?: Files;
  readonly clock: Clock;
  readonly log: Log;
  readonly environment: { readonly [name: string]: string | undefined };
  /** Not given: every QEMU runs as the host's own user. */
  readonly users?: GuestUsers;
}

export class QemuHypervisor implements Hypervisor {
  readonly remark = null;
  readonly #machines = new MachineTable<QemuMachine>();
  #accelerator: { readonly key: string; readonly answer: Promise<Choice> } | null = null;
  /** Said once by each host: it is true of every machine it starts. */
  #toldWhyNotKvm: string | null = null;
  #toldNoSandbox = false;
  /** Asked once. */
  #privateRoots: Promise<boolean> | null = null;
  readonly #closing = new AbortController();

  constructor(private readonly options: QemuOptions) {}

  state(vmId: string): VmState {
    return this.#machines.state(vmId);
  }

  runtime(vmId: string): VmRuntime {
    return this.#machines.runtime(vmId, this.options.processes);
  }

  subscribe(listener: (vmId: string, state: VmState) => void): () => void {
    return this.#machines.subscribe(listener);
  }

  close(): void {
    this.#closing.abort();
    for (const machine of this.#machines.all()) machine.qmp?.close();
  }

  start(vm: VmConfiguration, options: StartOptions = {}): Promise<void> {
    const machine: QemuMachine = { ...machineThatIsOff(vm.id), qmp: null };
    const launch = async (): Promise<void> => {
      // Before there is a worker: it makes its sockets for that user.
      await this.options.users?.assign(vm.id);
      await options.prepare?.();
      await this.#launch(machine, vm, options);
    };
    const giveUp = async (): Promise<void> => {
      if (machine.process) {
        this.options.processes.signal(machine.process, 'SIGKILL');
        await waitForExit(this.options.processes, this.options.clock, machine.process, EXIT_LIMIT_MS);
      }
      await this.#ended(machine);
    };
    return this.#machines.start(vm, machine, launch, giveUp);
  }

  async #launch(machine: QemuMachine, vm: VmConfiguration, { verify, warn, signal }: StartOptions): Promise<void> {
    const { paths, processes, clock, log } = this.options;
    const program = await findQemu(this.options.environment);
    const { accelerator: chosen, whyNotKvm } = await this.#chooseAccelerator(program);
    if (whyNotKvm !== null && this.#toldWhyNotKvm !== whyNotKvm && warn) {
      this.#toldWhyNotKvm = whyNotKvm;
      await warn(`There is a /dev/kvm, but virtual machines run under emulation, which is many times slower: ${whyNotKvm}.`);
    }
    machine.accelerator = chosen.kind;
    if (!program.sandbox && !this.#toldNoSandbox && warn) {
      this.#toldNoSandbox = true;
      await warn(`'${program.path}' was built without seccomp: virtual machines run without -sandbox.`);
    }
    const user = this.options.users?.of(vm.id) ?? null;
    await systemFiles.makeFolders(paths.vmRunFolder(vm.id));
    await systemFiles.makeFolders(paths.vmLogFolder(vm.id));
    await boundLog(paths.vmLog(vm.id, 'qemu'));
    const privateRoot = user !== null && (await this.#givesPrivateRoots(vm));
    const child = await launchQemu(
      vm,
      { program, accelerator: chosen, user, privateRoot, environment: this.options.environment },
      paths,
      processes,
    );
    machine.process = child.identity;
    machine.startedAt = clock.now().toISOString();
    log.info({ vmId: vm.id, qemu: child.identity.pid, user, privateRoot, args: child.args }, 'QEMU started');
    const qmp = await waitUntil(
      clock,
      MONITOR_LIMIT_MS,
      20,
      async () => {
        if (!processes.isAlive(child.identity)) throw await this.#launchFailure(vm, 'QEMU ended at once');
        return Qmp.open(paths.qmpSocket(vm.id), child.identity.pid).catch(() => undefined);
      },
      signal,
    );
    if (!qmp)
      throw await this.#launchFailure(
        vm,
        signal?.aborted ? 'the start was abandoned' : `QEMU's monitor did not answer within ${MONITOR_LIMIT_MS} ms`,
      );
    this.#attach(machine, qmp);
    if (hasSecretArguments(vm.directBoot)) await this.#makeMachine(vm, vm.directBoot!.arguments, qmp);
    await removeBootFiles(paths.vmRunFolder(vm.id));
    // All devices are made, and the guest has printed nothing yet.
    await limitFiles(child.identity.pid, user).catch((error: unknown) =>
      log.warn({ vmId: vm.id, error: String(error) }, 'the console of this guest is only cut, not limited'),
    );
    await verify?.(child.identity.pid);
    await qmp.call('cont');
    if (!(await this.#refreshState(machine)) || (machine.state as VmState) === 'Off')
      throw await this.#launchFailure(vm, 'the guest did not run');
  }

  /** For a QEMU that waits (-preconfig): the kernel's arguments, then the machine. */
  async #makeMachine(vm: VmConfiguration, kernelArguments: string, qmp: Qmp): Promise<void> {
    try {
      await qmp.call('qom-set', { path: '/machine', property: 'append', value: kernelArguments });
      await qmp.call('x-exit-preconfig', {}, MONITOR_LIMIT_MS);
    } catch (error) {
      throw await this.#launchFailure(vm, error instanceof Error ? error.message.replace(/\.$/, '') : String(error));
    }
  }

  #givesPrivateRoots(vm: VmConfiguration): Promise<boolean> {
    this.#privateRoots ??= whyNoPrivateRoot(this.options.paths.vmRunFolder(vm.id)).then((reason) => {
      if (reason !== null) this.options.log.warn({ reason }, 'QEMU has no mount and network namespace of its own here');
      return reason === null;
    });
    return this.#privateRoots;
  }

  async #launchFailure(vm: VmConfiguration, what: string): Promise<VmStorageError> {
    const file = this.options.paths.vmLog(vm.id, 'qemu');
    const said = (await readFile(file, 'utf8').catch(() => '')).trim().split('\n').slice(-3).join(' ').slice(-600);
    return new VmStorageError(
      'HypervisorFailure',
      `Virtual machine "${vm.name}" could not be started: ${what}.${said ? ` It said: ${said}` : ''} See ${file}.`,
      { target: vm.name },
    );
  }

  async shutDown(vmId: string, timeoutMs: number, signal?: AbortSignal): Promise<boolean> {
    const machine = this.#running(vmId);
    if (machine.state === 'Paused') await this.resume(vmId); // a paused guest hears no button
    const { clock } = this.options;
    const press = (): Promise<unknown> => this.#monitor(machine).call('system_powerdown');
    await press();
    let pressedAtMs = clock.monotonicMs();
    const gone = await waitUntil(
      clock,
      timeoutMs,
      50,
      async () => {
        if (this.state(vmId) === 'Off') return true;
        if (clock.monotonicMs() - pressedAtMs < PRESS_AGAIN_MS) return undefined;
        pressedAtMs = clock.monotonicMs();
        // The first press was heard by QEMU: what this one meets is a monitor that goes as QEMU ends, and that ends the wait.
        await press().catch((error: unknown) =>
          this.options.log.warn({ vmId, error: String(error) }, 'the power button was not pressed again'),
        );
        return undefined;
      },
      signal,
    );
    return gone ?? false;
  }

  async turnOff(vmId: string): Promise<void> {
    const machine = this.#machines.get(vmId);
    if (!machine?.process) return;
    const { processes, clock } = this.options;
    this.#machines.enter(machine, 'Stopping');
    await machine.qmp?.call('quit', {}, 2_000).catch(() => {}); // an orderly end closes its sockets; if it does not come, the next line does
    if (!(await waitForExit(processes, clock, machine.process, 2_000))) processes.signal(machine.process, 'SIGKILL');
    if (!(await waitForExit(processes, clock, machine.process, EXIT_LIMIT_MS))) {
      machine.trouble = `QEMU (pid ${machine.process.pid}) does not end; it waits in the kernel for storage`;
      throw new VmStorageError('HypervisorFailure', `${machine.trouble}.`, { target: vmId });
    }
    await this.#ended(machine);
  }

  async pause(vmId: string): Promise<void> {
    const machine = this.#running(vmId);
    await this.#monitor(machine).call('stop');
    await this.#refreshState(machine);
  }

  async resume(vmId: string): Promise<void> {
    const machine = this.#running(vmId);
    await this.#monitor(machine).call('cont');
    await this.#refreshState(machine);
  }

  async adopt(vmId: string): Promise<VmState> {
    const { processes, clock, log } = this.options;
    const identity = await this.#findProcess(vmId);
    if (!identity) {
      await this.#removeRunFiles(vmId);
      return 'Off';
    }
    const line = processes.commandLine(identity.pid);
    const kvm = line[line.indexOf('-accel') + 1]?.startsWith('kvm') === true;
    const machine: QemuMachine = {
      ...machineThatIsOff(vmId),
      process: identity,
      accelerator: kvm ? 'kvm' : 'tcg',
      startedAt: startedAt(identity, clock).toISOString(),
      qmp: null,
    };
    this.#machines.adopt(machine);
    log.info({ vmId, qemu: identity.pid }, 'QEMU found again');
    await this.#reachMonitor(machine);
    if ((machine.state as VmState) === 'Starting') await this.turnOff(vmId); // its start was never finished: the guest has executed nothing
    return this.state(vmId);
  }

  /**
   * The live QEMU of the machine. By the process table, not the pid file: the host may have died before it wrote that. It is QEMU itself that
   * counts, or what becomes it (confinement.ts), not a debugger or a search that has its words; of our own user or of one that guests have.
   */
  async #findProcess(vmId: string): Promise<ProcessIdentity | null> {
    const { paths, processes } = this.options;
    const started = await stat(paths.vmRunFolder(vmId)).then(
      () => true,
      () => false,
    ); // no folder: not started since the machine booted
    if (!started) return null;
    const origin: Origin = { isUser: (uid) => uid === ownUid() || this.options.users?.includes(uid) === true, isProgram: isQemu };
    const named = processes.find((line) => line[line.indexOf('-uuid') + 1] === vmId, origin);
    return named.find((identity) => this.#isOurs(vmId, identity)) ?? null;
  }

  /** Whoever may start programs can give one the id of a machine: so the folder it works in counts, too. */
  #isOurs(vmId: string, { pid }: ProcessIdentity): boolean {
    const { paths, processes } = this.options;
    const works = processes.worksIn(pid, paths.vmRunFolder(vmId));
    // Without CAP_SYS_PTRACE the kernel does not say where another user's works; but nobody else has such a user.
    if (processes.userOf(pid) !== ownUid()) return works !== false;
    // 0.1 told it a pid file, and had it work elsewhere.
    return works === true || processes.commandLine(pid).includes(paths.qemuPidFile(vmId));
  }

  #attach(machine: QemuMachine, qmp: Qmp): void {
    machine.qmp = qmp;
    machine.trouble = null;
    qmp.subscribe(
      (event) =>
        void this.#onEvent(machine, event).catch((error: unknown) =>
          this.options.log.warn({ vmId: machine.vmId, error: String(error) }, 'event not handled'),
        ),
    );
    void qmp.closed
      .then(async (reason) => {
        machine.qmp = null;
        if (this.#closing.signal.aborted || !this.#machines.has(machine) || !machine.process) return;
        // QEMU closes its monitor a moment before it is gone.
        if (await waitForExit(this.options.processes, this.options.clock, machine.process, 2_000)) {
          if (machine.state !== 'Starting') await this.#ended(machine);
        } else {
          this.options.log.warn({ vmId: machine.vmId, reason }, 'the monitor closed under a living QEMU');
          if (machine.state !== 'Starting') await this.#reachMonitor(machine);
        }
      })
      .catch((error: unknown) => this.options.log.error({ vmId: machine.vmId, error: String(error) }, 'a monitor is lost'));
  }

  /** Connects to the monitor of a live process; on failure says so in `trouble` and goes on trying until the process is gone. */
  async #reachMonitor(machine: QemuMachine): Promise<void> {
    const attempt = async (): Promise<boolean> => {
      const qmp = await Qmp.open(this.options.paths.qmpSocket(machine.vmId), machine.process!.pid, 2_000);
      this.#attach(machine, qmp);
      return this.#refreshState(machine);
    };
    try {
      await attempt();
    } catch (error) {
      machine.trouble = `QEMU's monitor does not answer (${error instanceof Error ? error.message : String(error)})`;
      void this.#keepTrying(machine, attempt);
    }
  }

  async #keepTrying(machine: QemuMachine, attempt: () => Promise<boolean>): Promise<void> {
    const { clock, processes } = this.options;
    const signal = this.#closing.signal;
    while (!signal.aborted && machine.process && this.#machines.has(machine)) {
      await clock.sleep(MONITOR_RETRY_MS, signal).catch(() => {});
      if (signal.aborted) return;
      if (!processes.isAlive(machine.process)) return this.#ended(machine);
      if (
        await attempt().then(
          () => true,
          () => false,
        )
      )
        return;
    }
  }

  async #onEvent(machine: QemuMachine, { event }: QmpEvent): Promise<void> {
    if (machine.state === 'Starting') return; // start() decides
    switch (event) {
      case 'SHUTDOWN':
        this.#machines.enter(machine, 'Stopping');
        return;
      case 'STOP':
      case 'RESUME':
        await this.#refreshState(machine);
    }
  }

  /** Asks the monitor what the guest does; false if it has no monitor. */
  async #refreshState(machine: QemuMachine): Promise<boolean> {
    if (!machine.qmp) return false;
    const { status } = (await machine.qmp.call('query-status')) as { status: string };
    const state = stateOf(status);
    if (machine.state !== 'Stopping' && machine.process && this.#machines.has(machine)) this.#machines.enter(machine, state);
    return true;
  }

  #ended(machine: QemuMachine): Promise<void> {
    return this.#machines.ended(machine, async () => {
      machine.qmp?.close();
      await this.#removeRunFiles(machine.vmId);
      this.options.log.info({ vmId: machine.vmId, qemu: machine.process?.pid }, 'QEMU is gone');
    });
  }

  async #removeRunFiles(vmId: string): Promise<void> {
    const { paths } = this.options;
    await Promise.all([paths.qmpSocket(vmId), paths.qemuPidFile(vmId)].map((file) => rm(file, { force: true })));
    await removeBootFiles(paths.vmRunFolder(vmId));
  }

  #running(vmId: string): QemuMachine {
    const machine = this.#machines.get(vmId);
    if (machine) return machine;
    throw notInThisState(vmId);
  }

  #monitor(machine: QemuMachine): Qmp {
    if (machine.qmp) return machine.qmp;
    throw new VmStorageError(
      'HypervisorFailure',
      `${machine.trouble ?? "QEMU's monitor is not connected"}. The guest itself may be running; -TurnOff ends it.`,
      { target: machine.vmId },
    );
  }

  #chooseAccelerator(program: QemuProgram): Promise<Choice> {
    const key = `${program.path} ${program.version}`;
    if (this.#accelerator?.key !== key) {
      const { paths, files, clock, log } = this.options;
      const answer = accelerator(program, paths.acceleratorFile, files ?? systemFiles, clock, log);
      this.#accelerator = { key, answer };
      answer.catch(() => (this.#accelerator = null)); // asked again next time
    }
    return this.#accelerator!.answer;
  }
}

/** QEMU's RunState as Hyper-V's word. */
function stateOf(status: string): VmState {
  switch (status) {
    case 'running':
      return 'Running';
    case 'io-error':
    case 'guest-panicked':
    case 'internal-error':
      return 'RunningCritical';
    case 'shutdown':
      return 'Stopping';
    case 'prelaunch':
    case 'inmigrate':
      return 'Starting';
    default:
      return 'Paused'; // paused, suspended, watchdog, debug, save-vm ...
  }
}

/** By any of the names that distributions give it, or what is about to become it (confinement.ts). */
const isQemu = (name: string | null): boolean =>
  name === null || /qemu/.test(name) || /^(sh|dash|bash|busybox|unshare|setpriv)$/.test(name);
