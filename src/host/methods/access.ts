/**
 * What each method does to the host, so who may call it. A reader (model/roles.ts) may look, and may ask what a change would be (-WhatIf); every
 * change is in the audit lines of the log.
 *
 * | access | what it does | a reader | audit line |
 * | --- | --- | --- | --- |
 * | reads | changes nothing | may | none |
 * | asks | changes what the client has said yes to, thing by thing | is refused at that yes | at that yes |
 * | acts | changes without asking | is refused | before it begins |
 */
import { START_GUESTS, STOP_GUESTS } from '../../protocol/host-commands.js';
import { WATCH } from '../../protocol/subscription.js';

export type Access = 'reads' | 'asks' | 'acts';

export const methodAccess: { readonly [method: string]: Access } = {
  'Add-VMHardDiskDrive': 'asks',
  'Get-VHD': 'reads',
  'Get-VM': 'reads',
  'Get-VMHardDiskDrive': 'reads',
  'Get-VMHost': 'reads',
  'Get-VMStorageMove': 'reads',
  'Import-VM': 'asks',
  'Move-VMStorage': 'asks',
  'New-VHD': 'asks',
  'New-VM': 'asks',
  'Remove-VM': 'asks',
  'Remove-VMHardDiskDrive': 'asks',
  'Resolve-VMStorageMove': 'asks',
  'Set-VM': 'asks',
  'Set-VMHost': 'asks',
  'Start-VM': 'asks',
  'Stop-VM': 'asks',
  'Stop-VMStorageMove': 'asks',
  [START_GUESTS]: 'acts',
  [STOP_GUESTS]: 'acts',
  [WATCH]: 'reads',
};

/** Of a method that is not in the table too: as of one that may do anything. */
export function accessOf(method: string): Access {
  return (Object.hasOwn(methodAccess, method) ? methodAccess[method] : undefined) ?? 'acts';
}
