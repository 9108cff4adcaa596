/** Every cmdlet, by its name. What is rendered, bound, helped and served comes from here; a missing one is a type error. */
import type { BoundOf, Cmdlet } from './define.js';
import addVMHardDiskDrive from './add-vmharddiskdrive.js';
import getVHD from './get-vhd.js';
import getVM from './get-vm.js';
import getVMHardDiskDrive from './get-vmharddiskdrive.js';
import getVMHost from './get-vmhost.js';
import getVMStorageMove from './get-vmstoragemove.js';
import importVM from './import-vm.js';
import moveVMStorage from './move-vmstorage.js';
import newVHD from './new-vhd.js';
import newVM from './new-vm.js';
import removeVM from './remove-vm.js';
import removeVMHardDiskDrive from './remove-vmharddiskdrive.js';
import resolveVMStorageMove from './resolve-vmstoragemove.js';
import setVM from './set-vm.js';
import setVMHost from './set-vmhost.js';
import startVM from './start-vm.js';
import stopVM from './stop-vm.js';
import stopVMStorageMove from './stop-vmstoragemove.js';

export type { BoundOf, Cmdlet, Parameter } from './define.js';

export const cmdlets = {
  'Add-VMHardDiskDrive': addVMHardDiskDrive,
  'Get-VHD': getVHD,
  'Get-VM': getVM,
  'Get-VMHardDiskDrive': getVMHardDiskDrive,
  'Get-VMHost': getVMHost,
  'Get-VMStorageMove': getVMStorageMove,
  'Import-VM': importVM,
  'Move-VMStorage': moveVMStorage,
  'New-VHD': newVHD,
  'New-VM': newVM,
  'Remove-VM': removeVM,
  'Remove-VMHardDiskDrive': removeVMHardDiskDrive,
  'Resolve-VMStorageMove': resolveVMStorageMove,
  'Set-VM': setVM,
  'Set-VMHost': setVMHost,
  'Start-VM': startVM,
  'Stop-VM': stopVM,
  'Stop-VMStorageMove': stopVMStorageMove,
} as const;

export type CmdletName = keyof typeof cmdlets;
/** What a record of this cmdlet may hold in `bound`. */
export type Bound<N extends CmdletName> = BoundOf<(typeof cmdlets)[N]>;

/** Looked up by the name a client sent; undefined for any other text, `__proto__` included. */
export function findCmdlet(name: string): Cmdlet | undefined {
  return Object.hasOwn(cmdlets, name) ? (cmdlets as unknown as { readonly [name: string]: Cmdlet })[name] : undefined;
}
