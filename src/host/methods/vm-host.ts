/** Get-VMHost and Set-VMHost. */
import type { Bound } from '../../../cmdlets/index.js';
import { VmStorageError } from '../../model/errors.js';
import { MAXIMUM_STORAGE_MIGRATIONS_MOST } from '../../registry/schema.js';
import type { HostSettings } from '../../registry/settings.js';
import { computerName } from '../computer.js';
import { absolutePath } from '../disk-files.js';
import { publishHost } from '../publish.js';
import type { CmdletHandler, HostServices } from '../services.js';

export function getVmHost(services: HostServices): CmdletHandler {
  return (context) => context.output(publishHost(services.settings.current));
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
    if (!(await context.shouldProcess(`Set-VMHost will configure the host "${computerName()}".`))) return;
    const after = await services.settings.change(part);
    if (bound.Passthru === true) await context.output(publishHost(after));
  };
}
