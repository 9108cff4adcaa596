/** The processes of a run: every one of them is known here from its start and is gone at the end, however the run ends. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

/** What a child said is kept for the error message, its end only. */
const SAID_MOST = 4000;

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export class Child {
  /** Resolves when it has ended. */
  readonly ended: Promise<Ended>;
  #said = '';

  constructor(
    readonly name: string,
    private readonly process: ChildProcess,
  ) {
    for (const stream of [process.stdout, process.stderr])
      stream?.on('data', (text: Buffer) => (this.#said = (this.#said + text.toString()).slice(-SAID_MOST)));
    this.ended = once(process, 'exit').then(([code, signal]) => ({ code: code as number | null, signal: signal as NodeJS.Signals | null }));
    this.ended.catch(() => undefined); // the program cannot be started: whoever waits for it hears of it
  }

  get pid(): number {
    if (this.process.pid === undefined) throw new Error(`${this.name} could not be started.`);
    return this.process.pid;
  }

  get isRunning(): boolean {
    return this.process.pid !== undefined && this.process.exitCode === null && this.process.signalCode === null;
  }

  get said(): string {
    return this.#said.trim();
  }

  async kill(): Promise<void> {
    if (!this.isRunning) return;
    this.process.kill('SIGKILL');
    await this.ended;
  }

  /** Waits for an end with exit code 0. */
  async succeed(): Promise<void> {
    const { code, signal } = await this.ended;
    if (code !== 0) throw new Error(`${this.name} ended with ${code ?? signal}: ${this.said}`);
  }
}

export class Children {
  readonly #all = new Set<Child>();
  #closed = false;

  start(command: string, args: readonly string[]): Child {
    if (this.#closed) throw new Error('The run is over; nothing is started any more.');
    return this.#keep(command, spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] }));
  }

  #keep(command: string, started: ChildProcess): Child {
    const child = new Child(command, started);
    this.#all.add(child);
    void child.ended.then(
      () => this.#all.delete(child),
      () => this.#all.delete(child),
    );
    return child;
  }

  /** Runs a program to its end; resolves with the seconds it took. */
  async run(command: string, args: readonly string[]): Promise<number> {
    const began = performance.now();
    await this.start(command, args).succeed();
    return (performance.now() - began) / 1000;
  }

  /** Runs a program to its end with `env` besides this process's; resolves with all of its standard output. */
  async output(command: string, args: readonly string[], env: Readonly<Record<string, string>>): Promise<string> {
    if (this.#closed) throw new Error('The run is over; nothing is started any more.');
    const started = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
    let text = '';
    started.stdout.setEncoding('utf8').on('data', (part: string) => (text += part));
    // The end of the process and the end of what it said come in any order.
    await Promise.all([this.#keep(command, started).succeed(), once(started.stdout, 'close')]);
    return text;
  }

  /** Kills what is left and starts nothing more. */
  async end(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#all].map((child) => child.kill()));
  }
}

/** Resolves with what `look` gives once it gives something; rejects when the child ends before, or after `limitMs`. */
export async function whenReady<T>(child: Child, limitMs: number, look: () => Promise<T | undefined>): Promise<T> {
  const limit = performance.now() + limitMs;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (!child.isRunning) throw new Error(`${child.name} ended at once: ${child.said}`);
    if (performance.now() > limit) throw new Error(`${child.name} is not ready after ${limitMs / 1000} s: ${child.said}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
