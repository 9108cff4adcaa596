/** Every cmdlet the host itself answers; those of a move come from src/migration. */
import type { CmdletMethods, HostServices, Migration } from '../services.js';
import { getVm } from './get-vm.js';
import { addHardDiskDrive, getHardDiskDrive, removeHardDiskDrive } from './hard-disk-drives.js';
import { importVm } from './import-vm.js';
import { newVm } from './new-vm.js';
import { removeVm } from './remove-vm.js';
import { setVm } from './set-vm.js';
import { startVm } from './start-vm.js';
import { stopVm } from './stop-vm.js';
import { getVhd, newVhd } from './vhd.js';
import { getVmHost, setVmHost } from './vm-host.js';

export function hostMethods(services: HostServices, migration: Migration): CmdletMethods {
  return {
    'Add-VMHardDiskDrive': addHardDiskDrive(services),
    'Get-VHD': getVhd(services),
    'Get-VM': getVm(services, migration),
    'Get-VMHardDiskDrive': getHardDiskDrive(services),
    'Get-VMHost': getVmHost(services),
    'Import-VM': importVm(services, migration),
    'New-VHD': newVhd(services),
    'New-VM': newVm(services, migration),
    'Remove-VM': removeVm(services, migration),
    'Remove-VMHardDiskDrive': removeHardDiskDrive(services),
    'Set-VM': setVm(services, migration),
    'Set-VMHost': setVmHost(services),
    'Start-VM': startVm(services, migration),
    'Stop-VM': stopVm(services, migration),
  };
}
