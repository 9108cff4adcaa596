/**
 * One instance of the product in a temporary folder: the real host as a process, asked through the client as the cmdlets ask it.
 * It can be killed and started again; its workers and QEMUs outlive it, as they do in service, and end with this object.
 *
 *   <folder>/h            VMSTORAGE_HOME (short: socket names have 107 bytes)
 *   <folder>/qemu/qemu    QEMU with a second monitor, which connects to qemu/side-<vm id>.sock: the first one is the host's alone
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { findCmdlet } from '../../cmdlets/index.js';
import { ClientConnection } from '../../src/client/connection.js';
import { invokeAndCollect, type Collected, type InvokeOptions } from '../../src/client/invoke.js';
import { withFileThreads } from '../../src/os/file-threads.js';
import { instancePaths, type InstancePaths } from '../../src/os/paths.js';
import type { WireObject, WireValue } from '../../src/protocol/messages.js';
import { repository } from './guest-kernel.js';
import { killLeftovers, leftoversAfter, markedProcesses } from './leftovers.js';
import { removeMemoryFolder } from './memory-folder.js';
import { makeScratch, type Scratch } from './scratch.js';
import { until } from './until.js';

/** A host is there within a second; a busy machine takes longer. */
const START_LIMIT_MS = 30_000;
const END_LIMIT_MS = 15_000;

/** It connects, since QEMU has a user of its own and may make no socket; its root holds the folder of the program that is started. */
const qemuWithSideMonitor = `#!/bin/sh
before=
for word in "$@"; do
  [ "$before" = -uuid ] && exec qemu-system-x86_64 "$@" \\
    -chardev "socket,id=side,path=$(dirname "$0")/side-$word.sock,reconnect-ms=100" -mon chardev=side,mode=control
  before=$word
done
exec qemu-system-x86_64 "$@"
`;

/** What a cmdlet is given: `set` names the parameter set when it is not the cmdlet's default one. */
export interface CmdletCall extends Pick<InvokeOptions, 'stop' | 'signal' | 'prefs'> {
  readonly set?: string;
}

export class Instance implements AsyncDisposable {
  readonly home: string;
  readonly paths: InstancePaths;
  readonly environment: NodeJS.ProcessEnv;
  #host: ChildProcess | null = null;
  #under: AsyncDisposable | null = null;
  readonly #atExit = (): void => this.#killAllNow();

  private constructor(private readonly scratch: Scratch) {
    this.home = join(scratch.path, 'h');
    mkdirSync(this.home, { mode: 0o700 });
    // The users of VMs come here; what is not for them is in the home.
    chmodSync(scratch.path, 0o711);
    const qemu = join(scratch.path, 'qemu/qemu');
    mkdirSync(dirname(qemu));
    writeFileSync(qemu, qemuWithSideMonitor);
    for (const path of [dirname(qemu), qemu]) chmodSync(path, 0o755); // whatever the umask is
    this.environment = { ...process.env, VMSTORAGE_HOME: this.home, VMSTORAGE_QEMU: qemu };
    delete this.environment['VMSTORAGE_HOST'];
    this.paths = instancePaths(this.environment);
    // A test process that ends without disposing of anything must not leave guests behind.
    process.once('exit', this.#atExit);
  }

  /** `ready` comes before the first host: its environment, and what lies under its home, which goes with it, are the caller's. */
  static async start(
    what: string,
    ready: (instance: Instance) => Promise<AsyncDisposable | void> = async () => undefined,
  ): Promise<Instance> {
    const instance = new Instance(await makeScratch(what));
    try {
      instance.#under = (await ready(instance)) ?? null;
      await instance.startHost();
      return instance;
    } catch (error) {
      await instance[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The folder that goes away with this object. */
  get folder(): string {
    return this.scratch.path;
  }
  get hostPid(): number {
    const pid = this.#host?.pid;
    if (pid === undefined) throw new Error('there is no host');
    return pid;
  }

  async startHost(): Promise<void> {
    const log = openSync(join(this.folder, 'host-output.log'), 'a', 0o600);
    const host = spawn(process.execPath, [join(repository, 'dist/src/host/main.js')], {
      env: withFileThreads(this.environment),
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    this.#host = host;
    await until(
      'the host listens',
      async () => {
        if (host.exitCode !== null || host.signalCode !== null)
          throw new Error(`The host ended with ${host.exitCode ?? host.signalCode}:\n${this.hostOutput}`);
        return (await this.#listens()) || undefined;
      },
      START_LIMIT_MS,
    );
  }

  async #listens(): Promise<boolean> {
    if (!existsSync(this.paths.hostSocket)) return false;
    try {
      const connection = await ClientConnection.open(this.paths.hostSocket);
      await connection.greet('test');
      connection.close();
      return true;
    } catch {
      return false; // the socket of a killed predecessor, or not yet
    }
  }

  /** kill -9: nothing is told to anybody. */
  async killHost(): Promise<void> {
    await this.#endHost('SIGKILL');
  }

  /** What a service manager does. */
  async stopHost(): Promise<void> {
    await this.#endHost('SIGTERM');
  }

  async #endHost(signal: NodeJS.Signals): Promise<void> {
    const host = this.#host;
    this.#host = null;
    if (!host || host.pid === undefined || host.exitCode !== null || host.signalCode !== null) return;
    const exit = once(host, 'exit');
    host.kill(signal);
    const killing = setTimeout(() => host.kill('SIGKILL'), END_LIMIT_MS);
    await exit;
    clearTimeout(killing);
  }

  get hostOutput(): string {
    const file = join(this.folder, 'host-output.log');
    return existsSync(file) ? readFileSync(file, 'utf8').trimEnd().split('\n').slice(-30).join('\n') : '';
  }

  /** Everything that came of one record, errors included. */
  collect(cmdlet: string, bound: { readonly [name: string]: WireValue }, { set, ...how }: CmdletCall = {}): Promise<Collected> {
    const definition = findCmdlet(cmdlet);
    if (!definition) throw new Error(`there is no cmdlet ${cmdlet}`);
    return invokeAndCollect(cmdlet, set ?? definition.defaultSet, bound, { address: this.paths.hostSocket, cwd: this.folder, ...how });
  }

  /** What a cmdlet put out; its first error is thrown. */
  async run(cmdlet: string, bound: { readonly [name: string]: WireValue }, how: CmdletCall = {}): Promise<WireObject[]> {
    const { output, errors } = await this.collect(cmdlet, bound, how);
    if (errors[0]) throw errors[0];
    return output;
  }

  /** The error that a cmdlet has to end with. */
  async refusal(cmdlet: string, bound: { readonly [name: string]: WireValue }, how: CmdletCall = {}): Promise<Refusal> {
    try {
      await this.run(cmdlet, bound, how);
    } catch (error) {
      const { code, category, errorId, message } = error as Refusal;
      return { code, category, errorId, message };
    }
    throw new Error(`${cmdlet} ${JSON.stringify(bound)} was not refused`);
  }

  /** Pids of everything that grew out of this instance: host, workers, QEMUs. */
  get processes(): number[] {
    return markedProcesses(this.home, [process.pid], 'VMSTORAGE_HOME');
  }

  #killAllNow(): void {
    killLeftovers(this.processes.map((pid) => ({ kind: 'process', what: String(pid), pid })));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#endHost('SIGTERM');
    this.#killAllNow();
    const left = await leftoversAfter({ variable: 'VMSTORAGE_HOME', id: this.home, folder: null, except: [process.pid] }, 10_000);
    process.off('exit', this.#atExit);
    await this.#under?.[Symbol.asyncDispose]();
    removeMemoryFolder(this.environment);
    await this.scratch[Symbol.asyncDispose]();
    if (left.length > 0) throw new Error(`still there after SIGKILL: ${left.map(({ what }) => what).join('; ')}`);
  }
}

export interface Refusal {
  readonly code: string;
  readonly category: string;
  readonly errorId: string;
  readonly message: string;
}
