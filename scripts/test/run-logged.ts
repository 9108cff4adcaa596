/**
 * Runs one program of a suite as a process group of its own, its output in a log file, with a limit: a suite that hangs is
 * ended and counted as failed, and nothing of its group outlives it.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';

export interface LoggedRun {
  /** Exit code; null when a signal or the limit ended it, or it could not be started. */
  readonly code: number | null;
  readonly why: string;
}

const running = new Set<number>();

/** Ends every group that is still running: for Ctrl+C. */
export function endAll(): void {
  for (const pid of running) endGroup(pid);
}

function endGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

export function runLogged(
  program: string,
  args: readonly string[],
  how: { cwd: string; env: NodeJS.ProcessEnv; log: string; limitMs: number },
): Promise<LoggedRun> {
  const log = openSync(how.log, 'a');
  return new Promise((resolve) => {
    const child = spawn(program, args, { cwd: how.cwd, env: how.env, detached: true, stdio: ['ignore', log, log] });
    closeSync(log);
    let late = false;
    const limit = setTimeout(() => {
      late = true;
      if (child.pid !== undefined) endGroup(child.pid);
    }, how.limitMs);
    if (child.pid !== undefined) running.add(child.pid);
    const end = (code: number | null, why: string): void => {
      clearTimeout(limit);
      if (child.pid !== undefined) running.delete(child.pid);
      resolve({ code, why });
    };
    child.once('error', (error) => end(null, `${program} cannot be started: ${error.message}`));
    child.once('exit', (code, signal) =>
      end(code, late ? `${program} was ended after ${how.limitMs / 60_000} minutes` : `${program} ended with ${code ?? signal}`),
    );
  });
}
