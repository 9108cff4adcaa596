/** Runs another program of ours in the foreground: its output is ours, signals go to it exactly once, its exit code is ours. */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';

const forwarded = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;

/** With `tied` the program notices (`disconnect`) when we are killed and cannot pass anything on; otherwise it lives on then. */
export function runInForeground(program: string, words: readonly string[], { tied = false } = {}): Promise<number> {
  return new Promise((resolve, reject) => {
    // Its own process group: the terminal's Ctrl+C reaches only us, and we pass it on.
    const stdio = tied ? (['inherit', 'inherit', 'inherit', 'ipc'] as const) : (['inherit', 'inherit', 'inherit'] as const);
    const child = spawn(process.execPath, [program, ...words], { stdio: [...stdio], detached: true });
    const pass = (signal: NodeJS.Signals): void => void child.kill(signal);
    for (const signal of forwarded) process.on(signal, pass);
    const done = (): void => {
      for (const signal of forwarded) process.off(signal, pass);
    };
    child.once('error', (error) => {
      done();
      reject(error);
    });
    child.once('exit', (code, signal) => {
      done();
      resolve(code ?? 128 + constants.signals[signal!]);
    });
  });
}
