/** `npm run demo -- --wizard`: the wizard of the demo's host, in the foreground, for as long as the person wants it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { repository } from '../../test/support/guest-kernel.js';

/** Resolves when Ctrl+C came; rejects when the wizard ended by itself. It prints its links on our standard output and takes Enter from our input. */
export async function leaveToPerson(environment: NodeJS.ProcessEnv, stopped: AbortSignal): Promise<void> {
  const wizard = spawn(process.execPath, [join(repository, 'dist/src/cli/main.js'), 'wizard'], { env: environment, stdio: 'inherit' });
  const ended = once(wizard, 'exit') as Promise<[number | null, string | null]>;
  const end = (): void => void wizard.kill('SIGTERM');
  stopped.addEventListener('abort', end, { once: true });
  if (stopped.aborted) end();
  const [code, signal] = await ended;
  if (!stopped.aborted && signal !== 'SIGINT') throw new Error(`the wizard ended (${code ?? signal})`);
}
