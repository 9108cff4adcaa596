/** Get-VMHost and Set-VMHost. */
import type { Bound } from '../../../cmdlets/index.js';
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
    if (!(await context.shouldProcess(`Set-VMHost will configure the host "${computerName()}".`))) return;
    const after = await services.settings.change(part);
    if (bound.Passthru === true) await context.output(publishHost(after));
  };
}
