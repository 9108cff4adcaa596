/**
 * The built-in guest as the hypervisor: one detached process per machine (built-in-guest.ts) that speaks vhost-user-blk to the machine's
 * sockets and writes checksummed blocks. For the crash loop, and for the demo where there is no QEMU. Only for machines whose disks are
 * blank: it writes all over them, which is why nothing but VMSTORAGE_HYPERVISOR=built-in chooses it.
 *
 * As with QEMU, nothing about a running machine is written down: a new host finds the process in the process table (by machine id and this
 * instance's control socket), and the process's end is seen at /proc.
 */
import { access, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { VmStorageError } from '../model/errors.js';
import { diskQueues, type VmConfiguration, type VmState } from '../model/vm.js';
import type { NativeGuestOptions } from '../native/binding.js';
import { boundLog } from '../os/bounded-logs.js';
import { waitUntil } from '../os/clock.js';
import { systemFiles } from '../os/files.js';
import { ownProcesses, startedAt, waitForExit } from '../os/processes.js';
import { askGuest } from './built-in-control.js';
import { builtInLoad } from './built-in-load.js';
import type { Hypervisor, StartOptions, VmRuntime } from './hypervisor.js';
import { type Machine, machineThatIsOff, MachineTable, notInThisState } from './machine-table.js';
import type { QemuOptions } from './qemu.js';

/** From exec to an answering control socket: 0.2 s at rest. */
const START_LIMIT_MS = 30_000;
const ANSWER_LIMIT_MS = 5_000;
const EXIT_LIMIT_MS = 10_000;
/** How often it is looked whether a guest's process is still there. */
const LOOK_EVERY_MS = 100;
const PROGRAM = fileURLToPath(new URL('./built-in-guest.js', import.meta.url));

export type BuiltInOptions = Omit<QemuOptions, 'files'> & {
  /** The guest's process script; tests run from the sources name the built one. */
  readonly program?: string;
};

/** Where the guest of a machine keeps what its disks may hold: `disk<N>.ledger`, for whoever checks the images afterwards. */
export const ledgerFolder = (vmLogFolder: string): string => join(vmLogFolder, 'ledger');
/** The report of the last guest that was shut down. */
export const guestReportFile = (vmLogFolder: string): string => join(vmLogFolder, 'guest-report.json');

export class BuiltInHypervisor implements Hypervisor {
  readonly remark =
    'VMSTORAGE_HYPERVISOR=built-in: virtual machines run the built-in test guest, which writes test blocks all over their disks.';
  readonly #machines = new MachineTable<Machine>();
  #looking: NodeJS.Timeout | null = null;

  constructor(private readonly options: BuiltInOptions) {}

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
    if (this.#looking) clearInterval(this.#looking);
    this.#looking = null;
    this.#machines.clear();
  }

  start(vm: VmConfiguration, { prepare, verify, signal }: StartOptions = {}): Promise<void> {
    const machine = machineThatIsOff(vm.id);
    const launch = async (): Promise<void> => {
      await prepare?.();
      await this.#launch(machine, vm, signal);
      await verify?.(machine.process!.pid);
      this.#machines.enter(machine, 'Running');
      this.#look();
    };
    return this.#machines.start(vm, machine, launch, () => this.#killAndForget(machine));
  }

  async #launch(machine: Machine, vm: VmConfiguration, signal?: AbortSignal): Promise<void> {
    const { paths, processes, clock, log, environment } = this.options;
    if (vm.disks.length === 0 || vm.disks.some((disk) => disk.passThrough)) {
      throw new VmStorageError(
        'NotImplemented',
        `Virtual machine "${vm.name}" cannot run the built-in guest: that needs one disk file or more, and no pass-through disk.`,
        { target: vm.name },
      );
    }
    const control = paths.guestSocket(vm.id);
    const folder = paths.vmLogFolder(vm.id);
    const ledgers = ledgerFolder(folder);
    const logFile = paths.vmLog(vm.id, 'guest');
    await systemFiles.makeFolders(paths.vmRunFolder(vm.id));
    await systemFiles.makeFolders(ledgers);
    await Promise.all([rm(control, { force: true }), rm(guestReportFile(folder), { force: true }), boundLog(logFile)]);
    const options: NativeGuestOptions = {
      ...builtInLoad(environment, vm.directBoot?.arguments ?? ''),
      queues: diskQueues(vm),
      sockets: vm.disks.map((_, index) => paths.diskSocket(vm.id, index)),
      ledgerFolder: ledgers,
      // What an earlier guest of this machine wrote is still on its disks.
      continueLedger: await access(join(ledgers, 'disk0.ledger')).then(
        () => true,
        () => false,
      ),
    };
    const child = await processes.startDetached({
      command: process.execPath,
      args: [
        this.options.program ?? PROGRAM,
        '--vm',
        vm.id,
        '--control',
        control,
        '--console',
        paths.vmLog(vm.id, 'console'),
        '--report',
        guestReportFile(folder),
        '--options',
        JSON.stringify(options),
      ],
      logFile,
      cwd: '/',
    });
    machine.process = child.identity;
    machine.startedAt = clock.now().toISOString();
    log.info({ vmId: vm.id, guest: child.identity.pid, options }, 'built-in guest started');
    const answers = await waitUntil(
      clock,
      START_LIMIT_MS,
      20,
      async () => {
        if (!processes.isAlive(child.identity))
          throw new VmStorageError('HypervisorFailure', `The built-in guest of "${vm.name}" ended at once. See ${logFile}.`, {
            target: vm.name,
          });
        return askGuest(control, 'stats', ANSWER_LIMIT_MS, signal).then(
          () => true as const,
          () => undefined,
        );
      },
      signal,
    );
    if (!answers)
      throw new VmStorageError('HypervisorFailure', `The built-in guest of "${vm.name}" did not answer. See ${logFile}.`, {
        target: vm.name,
      });
  }

  async shutDown(vmId: string, timeoutMs: number, signal?: AbortSignal): Promise<boolean> {
    const machine = this.#running(vmId);
    this.#machines.enter(machine, 'Stopping');
    // Its process ends by itself once it has answered; a question that breaks off says nothing, the end of the process does.
    const report = await askGuest(this.options.paths.guestSocket(vmId), 'stop', timeoutMs, signal).catch((error: unknown) => {
      this.options.log.warn({ vmId, error: String(error) }, 'the built-in guest did not tell how it ended');
      return null;
    });
    if (report && !report.clean) this.options.log.error({ vmId, report }, 'the built-in guest saw something wrong');
    const gone = await waitForExit(this.options.processes, this.options.clock, machine.process!, report ? EXIT_LIMIT_MS : 0);
    if (gone) await this.#ended(machine);
    return gone;
  }

  async turnOff(vmId: string): Promise<void> {
    const machine = this.#machines.get(vmId);
    if (!machine?.process) return;
    this.#machines.enter(machine, 'Stopping');
    await this.#killAndForget(machine);
  }

  pause(vmId: string): Promise<void> {
    return Promise.reject(new VmStorageError('NotImplemented', 'The built-in guest cannot be paused.', { target: vmId }));
  }

  resume(vmId: string): Promise<void> {
    return Promise.reject(new VmStorageError('NotImplemented', 'The built-in guest cannot be paused.', { target: vmId }));
  }

  async adopt(vmId: string): Promise<VmState> {
    const { paths, processes, clock, log } = this.options;
    const control = paths.guestSocket(vmId);
    const identity = processes.find(
      (line) => line[line.indexOf('--control') + 1] === control && line[line.indexOf('--vm') + 1] === vmId,
      ownProcesses((name) => name === null || name === basename(process.execPath)),
    )[0];
    if (!identity) {
      await rm(control, { force: true });
      return 'Off';
    }
    const machine: Machine = {
      ...machineThatIsOff(vmId),
      process: identity,
      startedAt: startedAt(identity, clock).toISOString(),
    };
    this.#machines.adopt(machine);
    this.#look();
    log.info({ vmId, guest: identity.pid }, 'built-in guest found again');
    return machine.state;
  }

  #look(): void {
    this.#looking ??= setInterval(() => {
      for (const machine of this.#machines.all()) {
        if (machine.state === 'Starting' || !machine.process || this.options.processes.isAlive(machine.process)) continue;
        void this.#ended(machine).catch((error: unknown) =>
          this.options.log.error({ vmId: machine.vmId, error: String(error) }, 'the end of a guest was not handled'),
        );
      }
    }, LOOK_EVERY_MS).unref();
  }

  async #killAndForget(machine: Machine): Promise<void> {
    if (machine.process) {
      this.options.processes.signal(machine.process, 'SIGKILL');
      if (!(await waitForExit(this.options.processes, this.options.clock, machine.process, EXIT_LIMIT_MS)))
        throw new VmStorageError('HypervisorFailure', `The built-in guest (pid ${machine.process.pid}) does not end.`, {
          target: machine.vmId,
        });
    }
    await this.#ended(machine);
  }

  #ended(machine: Machine): Promise<void> {
    return this.#machines.ended(machine, async () => {
      await rm(this.options.paths.guestSocket(machine.vmId), { force: true });
      this.options.log.info({ vmId: machine.vmId, guest: machine.process?.pid }, 'the built-in guest is gone');
    });
  }

  #running(vmId: string): Machine {
    const machine = this.#machines.get(vmId);
    if (machine?.process) return machine;
    throw notInThisState(vmId);
  }
}
