/**
 * Finds a PowerShell 7.6: VMSTORAGE_PWSH, then PATH, then an offline bundle beside the checkout, then the official release. A
 * candidate that is named by the user must do; one that is merely found is passed over when it is too old.
 */
import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { VmStorageError } from '../model/errors.js';
import { refuseOthersFiles } from '../os/own-folder.js';
import { checkoutFolder } from './checkout.js';
import { fetchRelease } from './release.js';

const run = promisify(execFile);
/** The module's baseline. */
const minimum = [7, 6] as const;
const probeTimeoutMs = 60_000;
/** The bundle unpacks in about 4 s. */
const installTimeoutMs = 5 * 60_000;

export interface FoundPwsh {
  readonly path: string;
  readonly version: string;
  readonly from: 'VMSTORAGE_PWSH' | 'PATH' | 'bundle' | 'release';
}

export interface FindOptions {
  readonly environment?: NodeJS.ProcessEnv;
  /** Default: the folder of package.json. */
  readonly checkout?: string;
  /** Fetch the official release when nothing else is there. Default: true. */
  readonly fetch?: boolean;
  readonly releaseUrl?: string;
  /** For tests: the hash of the release's archive. */
  readonly releaseSha256?: string;
  readonly report?: (text: string) => void;
}

/** Environment for any pwsh we start: quiet, plain, and independent of whether libicu is installed. */
export function pwshEnvironment(environment: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  // Beside NO_COLOR it has every Node program that pwsh runs warn on its standard error.
  const { FORCE_COLOR: _, ...rest } = environment;
  return {
    DOTNET_SYSTEM_GLOBALIZATION_INVARIANT: '1',
    ...rest,
    NO_COLOR: '1',
    TERM: 'dumb',
    POWERSHELL_TELEMETRY_OPTOUT: '1',
    POWERSHELL_UPDATECHECK: 'Off',
    DOTNET_CLI_TELEMETRY_OPTOUT: '1',
  };
}

async function versionOf(path: string, environment: NodeJS.ProcessEnv): Promise<string> {
  const command = '$PSVersionTable.PSVersion.ToString()';
  const { stdout } = await run(path, ['-NoLogo', '-NoProfile', '-NonInteractive', '-Command', command], {
    env: pwshEnvironment(environment),
    timeout: probeTimeoutMs,
  });
  return stdout.trim();
}

function isNewEnough(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > minimum[0] || (major === minimum[0] && minor >= minimum[1]);
}

async function executableOnPath(environment: NodeJS.ProcessEnv): Promise<string | undefined> {
  for (const folder of (environment['PATH'] ?? '').split(delimiter)) {
    if (folder === '') continue;
    const candidate = join(folder, 'pwsh');
    if (
      await access(candidate, constants.X_OK).then(
        () => true,
        () => false,
      )
    )
      return candidate;
  }
  return undefined;
}

/** Nobody named the bundle: it is run for where it lies, so only if nobody else could have put it there. */
async function mayRun(installer: string, report: (text: string) => void): Promise<boolean> {
  const isThere = await access(installer, constants.X_OK).then(
    () => true,
    () => false,
  );
  if (!isThere) return false;
  try {
    await refuseOthersFiles(installer, { beside: true });
    return true;
  } catch (error) {
    report(`passing over the bundle beside the checkout: ${error instanceof Error ? error.message : String(error)}`);
    return false;
  }
}

/** The first PowerShell that will do; throws with what to do when there is none. */
export async function findPwsh(options: FindOptions = {}): Promise<FoundPwsh> {
  const environment = options.environment ?? process.env;
  const checkout = options.checkout ?? checkoutFolder();
  const report = options.report ?? ((): void => {});

  const named = environment['VMSTORAGE_PWSH'];
  if (named) {
    let version: string;
    try {
      version = await versionOf(named, environment);
    } catch (cause) {
      throw new VmStorageError(
        'ObjectNotFound',
        `VMSTORAGE_PWSH names '${named}', which cannot be run. Name a PowerShell ${minimum.join('.')} or unset it.`,
        { cause, target: named },
      );
    }
    if (!isNewEnough(version)) {
      throw new VmStorageError('InvalidParameter', `VMSTORAGE_PWSH names PowerShell ${version}; ${minimum.join('.')} or later is needed.`, {
        target: named,
      });
    }
    return { path: named, version, from: 'VMSTORAGE_PWSH' };
  }

  const onPath = await executableOnPath(environment);
  if (onPath !== undefined) {
    const version = await versionOf(onPath, environment).catch(() => undefined);
    if (version !== undefined && isNewEnough(version)) return { path: onPath, version, from: 'PATH' };
    report(
      `passing over ${onPath}: ${version === undefined ? 'it cannot be run' : `version ${version} is older than ${minimum.join('.')}`}`,
    );
  }

  const installer = join(checkout, '..', 'shared', 'powershell', 'install');
  if (await mayRun(installer, report)) {
    const { stdout } = await run(installer, [join(checkout, '.cache', 'powershell')], { timeout: installTimeoutMs });
    const path = stdout.trim();
    return { path, version: await versionOf(path, environment), from: 'bundle' };
  }

  if (options.fetch === false) {
    throw new VmStorageError(
      'ObjectNotFound',
      `There is no PowerShell ${minimum.join('.')} here. Install it, or set VMSTORAGE_PWSH to its pwsh.`,
    );
  }
  const baseUrl = options.releaseUrl ?? environment['VMSTORAGE_PWSH_RELEASES'];
  const path = await fetchRelease(join(checkout, '.cache', 'powershell-release'), {
    report,
    ...(baseUrl === undefined ? {} : { baseUrl }),
    ...(options.releaseSha256 === undefined ? {} : { sha256: options.releaseSha256 }),
  });
  return { path, version: await versionOf(path, environment), from: 'release' };
}
