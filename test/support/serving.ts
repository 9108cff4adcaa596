/** `vmstorage serve` as a process: started, waited for, and ended by a signal; or refused, with its exit code and words. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { checkoutFolder } from '../../src/powershell/checkout.js';

export const commandLine = join(checkoutFolder(), 'dist', 'src', 'cli', 'main.js');
/** Two Node processes and the addon: a second; a busy machine takes as much longer. */
const START_LIMIT_MS = 90_000;

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** It ended before it served. */
export class Refused extends Error {
  constructor(readonly ended: Ended) {
    super(`serve ended with ${ended.code}: ${ended.stderr}`);
  }
}

export class Serving implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly ended: Promise<Ended>;
  #stdout = '';
  #stderr = '';

  private constructor(
    words: readonly string[],
    readonly socket: string,
  ) {
    this.#child = spawn(process.execPath, [commandLine, 'serve', ...words], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child.stdout!.on('data', (chunk: Buffer) => (this.#stdout += chunk.toString()));
    this.#child.stderr!.on('data', (chunk: Buffer) => (this.#stderr += chunk.toString()));
    this.ended = once(this.#child, 'close').then(([code]) => ({
      code: code as number | null,
      stdout: this.#stdout,
      stderr: this.#stderr,
    }));
  }

  /** Resolves when it serves; rejects with Refused when it ends instead. */
  static async start(image: string, socket: string, ...more: readonly string[]): Promise<Serving> {
    const serving = new Serving([image, '--nbd', socket, ...more], socket);
    const limit = setTimeout(() => serving.#child.kill('SIGKILL'), START_LIMIT_MS);
    try {
      const ended = serving.ended.then((how) => {
        throw new Refused(how);
      });
      while (!serving.#stdout.includes('\n')) await Promise.race([once(serving.#child.stdout!, 'data'), ended]);
      ended.catch(() => undefined); // that it ends later is what `ended` is for
      return serving;
    } finally {
      clearTimeout(limit);
    }
  }

  /** What it says when it is refused. */
  static async refusal(words: readonly string[]): Promise<Ended> {
    return new Serving(words, '').ended;
  }

  get uri(): string {
    return `nbd+unix:///?socket=${this.socket}`;
  }

  get pid(): number {
    return this.#child.pid!;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  end(signal: NodeJS.Signals = 'SIGINT'): Promise<Ended> {
    this.signal(signal);
    return this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) await this.end();
  }
}
