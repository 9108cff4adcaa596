/** Get-VMHost and Set-VMHost. */
import { access, constants, stat } from 'node:fs/promises';
import type { Bound } from '../../../cmdlets/index.js';
import { VmStorageError, type ErrorCode } from '../../model/errors.js';
import { errorCodeOf, hasCode, reasonOf } from '../../os/errno.js';
import { MAXIMUM_STORAGE_MIGRATIONS_MOST } from '../../registry/schema.js';
import type { HostSettings } from '../../registry/settings.js';
import { computerName } from '../computer.js';
import { absolutePath } from '../disk-files.js';
import { publishHost } from '../publish.js';
import type { CmdletHandler, HostServices } from '../services.js';

export function getVmHost(services: HostServices): CmdletHandler {
  return async (context) => {
    const trouble = services.trouble();
    if (trouble !== null) await context.warning(`The host runs, but ${trouble}. It goes on by itself once it can.`);
    const unusable = services.settings.trouble;
    if (unusable !== null)
      await context.warning(`The defaults are in force: ${unusable}. Correct the file, or move it away, and start the host again.`);
    await context.output(publishHost(services.settings.current));
  };
}

export function setVmHost(services: HostServices): CmdletHandler {
  return async (context) => {
    const bound = context.bound as Bound<'Set-VMHost'>;
    const part: Partial<HostSettings> = {
      ...(bound.MaximumStorageMigrations === undefined ? {} : { maximumStorageMigrations: Number(bound.MaximumStorageMigrations) }),
      ...(bound.VirtualHardDiskPath === undefined ? {} : { virtualHardDiskPath: absolutePath(bound.VirtualHardDiskPath, context.cwd) }),
      ...(bound.VirtualMachinePath === undefined ? {} : { virtualMachinePath: absolutePath(bound.VirtualMachinePath, context.cwd) }),
    };
    const most = part.maximumStorageMigrations;
    if (most !== undefined && (most < 1 || most > MAXIMUM_STORAGE_MIGRATIONS_MOST)) {
      throw new VmStorageError(
        'InvalidParameter',
        `${most} storage migrations at the same time are not possible; use 1 to ${MAXIMUM_STORAGE_MIGRATIONS_MOST}.`,
        { target: 'MaximumStorageMigrations' },
      );
    }
    for (const [folder, name] of [
      [part.virtualHardDiskPath, 'VirtualHardDiskPath'],
      [part.virtualMachinePath, 'VirtualMachinePath'],
    ] as const) {
      if (folder !== undefined) await refuseNoFolder(folder, name);
    }
    if (!(await context.shouldProcess(`Set-VMHost will configure the host "${computerName()}".`))) return;
    const after = await services.settings.change(part);
    if (bound.Passthru === true) await context.output(publishHost(after));
  };
}

/** A default that leads nowhere would be noticed by the next New-VM, which knows nothing of it. */
async function refuseNoFolder(folder: string, name: string): Promise<void> {
  const refuse = (why: string, code: ErrorCode, cause?: unknown): never => {
    throw new VmStorageError(
      code,
      `-${name} '${folder}' cannot be the default folder: ${why}. Nothing was changed; make the folder first, or name another one.`,
      {
        target: folder,
        ...(cause === undefined ? {} : { cause }),
      },
    );
  };
  try {
    if (!(await stat(folder)).isDirectory()) refuse('it is not a folder', 'InvalidParameter');
    await access(folder, constants.W_OK | constants.X_OK);
  } catch (cause) {
    if (cause instanceof VmStorageError) throw cause;
    refuse(reasonOf(cause), hasCode(cause, 'ENOENT', 'ENOTDIR') ? 'ObjectNotFound' : errorCodeOf(cause), cause);
  }
}
