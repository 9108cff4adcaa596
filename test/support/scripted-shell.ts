/** The opening of most PowerShell tests: a scripted host and a session led to it, for all tests of one `describe`. */
import { afterAll, beforeAll, beforeEach } from 'vitest';
import type { PwshSession } from '../../src/powershell/session.js';
import { openSession } from './pwsh.js';
import { ScriptedHost } from './scripted-host.js';

export interface ScriptedShell {
  readonly host: ScriptedHost;
  readonly session: PwshSession;
}

/**
 * Called inside a `describe`; what it returns is filled before the first test. The host forgets before each test what it has heard, and its
 * scripts and options are again those given here: a test, or a `beforeEach` behind this call, sets its own.
 */
export function scriptedShell(scripts: ScriptedHost['scripts'] = {}): ScriptedShell {
  const shell = {} as { host: ScriptedHost; session: PwshSession };
  beforeAll(async () => {
    shell.host = await ScriptedHost.listen();
    shell.session = await openSession(shell.host);
  }, 120_000);
  // What could not be opened is not there to be closed.
  afterAll(async () => {
    await (shell as Partial<ScriptedShell>).session?.[Symbol.asyncDispose]();
    await (shell as Partial<ScriptedShell>).host?.[Symbol.asyncDispose]();
  });
  beforeEach(() => {
    shell.host.forget();
    shell.host.options = {};
    shell.host.scripts = { ...scripts };
  });
  return shell;
}
