/** PowerShell for tests: the module is built once, and a session is led to a scripted host. */
import { buildShim } from '../../scripts/build-shim.js';
import { findPwsh, type FoundPwsh } from '../../src/powershell/find-pwsh.js';
import { PwshSession } from '../../src/powershell/session.js';
import type { ScriptedHost } from './scripted-host.js';

/** Undefined when there is none; nothing is fetched for a test. */
export async function pwshOrUndefined(): Promise<FoundPwsh | undefined> {
  return findPwsh({ fetch: false }).catch(() => undefined);
}

export async function moduleEnvironment(host?: ScriptedHost): Promise<NodeJS.ProcessEnv> {
  const { modules } = await buildShim();
  const environment: NodeJS.ProcessEnv = { ...process.env, PSModulePath: modules };
  for (const name of ['VMSTORAGE_HOST', 'VMSTORAGE_HOME', 'VMSTORAGE_CLI', 'VMSTORAGE_NOSTART']) delete environment[name];
  return { ...environment, ...(host?.environment ?? { VMSTORAGE_NOSTART: '1' }) };
}

export async function openSession(host?: ScriptedHost): Promise<PwshSession> {
  const { path } = await findPwsh({ fetch: false });
  return PwshSession.start({ executable: path, environment: await moduleEnvironment(host) });
}
