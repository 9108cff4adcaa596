/**
 * The demo's own host, in a folder of its own (VMSTORAGE_HOME), and the end of everything that grew out of it. Workers and QEMU
 * outlive a host on purpose, so ending the host is not enough: what is left is found by the folder's name in its environment.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { repository } from '../../test/support/guest-kernel.js';
import { killLeftovers, leftoversAfter, type Leftover } from '../../test/support/leftovers.js';

/** A host is there within a second; a busy machine takes longer. */
const START_LIMIT_MS = 30_000;
/** Ending by itself when it is asked to. */
const END_LIMIT_MS = 10_000;
const LOOK_EACH_MS = 50;

export class DemoHost {
  readonly #process: ChildProcess;
  readonly #logFile: string;

  private constructor(
    readonly home: string,
    readonly environment: NodeJS.ProcessEnv,
  ) {
    this.#logFile = join(home, 'host-output.log');
    const log = openSync(this.#logFile, 'a', 0o600);
    this.#process = spawn(process.execPath, [join(repository, 'dist/src/host/main.js')], { env: environment, stdio: ['ignore', log, log] });
    closeSync(log);
  }

  /** Starts a host; resolves when it listens. */
  static async start(home: string, more: NodeJS.ProcessEnv = {}): Promise<DemoHost> {
    const environment = { ...process.env, VMSTORAGE_HOME: home, ...more };
    delete (environment as NodeJS.ProcessEnv).VMSTORAGE_HOST;
    const host = new DemoHost(home, environment);
    let failure: Error | null = null;
    host.#process.once('error', (error) => (failure = error));
    const limit = Date.now() + START_LIMIT_MS;
    while (!(await host.#listens())) {
      const ended = host.#process.exitCode ?? host.#process.signalCode;
      if (failure ?? ended ?? Date.now() > limit) {
        await host.end();
        const why = failure
          ? (failure as Error).message
          : ended === null
            ? `it does not listen after ${START_LIMIT_MS / 1000} s`
            : `it ended with ${ended}`;
        throw new Error(`The host did not start: ${why}. It said:\n${host.output}`);
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_EACH_MS));
    }
    return host;
  }

  /** Where it may listen: in the folder itself or in its run folder. */
  async #listens(): Promise<boolean> {
    for (const path of [join(this.home, 'run/host.sock'), join(this.home, 'host.sock')]) {
      if (!existsSync(path)) continue;
      const socket = connect(path);
      const answered = await Promise.race([once(socket, 'connect').then(() => true), once(socket, 'error').then(() => false)]).catch(
        () => false,
      );
      socket.destroy();
      if (answered) return true;
    }
    return false;
  }

  /** The last of what the host printed. */
  get output(): string {
    return existsSync(this.#logFile) ? readFileSync(this.#logFile, 'utf8').trimEnd().split('\n').slice(-30).join('\n') : '';
  }

  /** Ends the host, then everything else of this folder, which gets `patienceMs` to end by itself. Returns what had to be killed. */
  async end(patienceMs = 0): Promise<Leftover[]> {
    if (this.#process.pid !== undefined && this.#process.exitCode === null && this.#process.signalCode === null) {
      const exit = once(this.#process, 'exit');
      this.#process.kill('SIGTERM');
      const killing = setTimeout(() => this.#process.kill('SIGKILL'), END_LIMIT_MS);
      await exit;
      clearTimeout(killing);
    }
    return endProcessesOf(this.home, patienceMs);
  }
}

/** Kills every process whose environment names this folder as its home. */
export async function endProcessesOf(home: string, patienceMs = 0): Promise<Leftover[]> {
  const left = await leftoversAfter({ variable: 'VMSTORAGE_HOME', id: home, folder: null, except: [process.pid] }, patienceMs);
  killLeftovers(left);
  return left;
}
