/** A disk attached to a VM: what Get-VMHardDiskDrive returns and `$vm.HardDrives` holds. */
import { defineObject, fixed, property, t, type WireOf } from '../define.js';
import { CacheAttributes, ControllerType } from './enums.js';

const noGuid = '00000000-0000-0000-0000-000000000000';

export const HardDiskDrive = defineObject({
  name: 'HardDiskDrive',
  namespace: 'Microsoft.HyperV.PowerShell',
  base: 'Drive',
  help: 'A hard disk drive of a virtual machine.',
  properties: {
    VMName: property(t.string, 'Name of the virtual machine.'),
    VMId: property(t.guid, 'Identifier of the virtual machine.'),
    VMSnapshotName: fixed(t.string, '', 'Name of the checkpoint the drive belongs to.'),
    VMSnapshotId: fixed(t.guid, noGuid, 'Identifier of the checkpoint the drive belongs to.'),
    Name: property(t.string, 'Name of the drive.'),
    Id: property(t.string, 'Identifier of the drive.'),
    ControllerType: property(t.enum(ControllerType), 'Kind of controller.'),
    ControllerNumber: property(t.int32, 'Number of the controller.'),
    ControllerLocation: property(t.int32, 'Location on the controller.'),
    Path: property(t.string, 'Disk file, or the /dev path of a pass-through disk.'),
    DiskNumber: fixed(t.nullable(t.int32), null, 'Number of a pass-through disk; nothing for a file.'),
    PoolName: fixed(t.string, 'Primordial', 'Resource pool.'),
    SupportPersistentReservations: fixed(t.nullable(t.bool), false, 'Whether persistent reservations are offered.'),
    MaximumIOPS: fixed(t.nullable(t.uint64), '0', 'Limit of normalised requests per second; 0 is none.'),
    MinimumIOPS: fixed(t.nullable(t.uint64), '0', 'Wanted normalised requests per second; 0 is none.'),
    QoSPolicyID: fixed(t.nullable(t.guid), noGuid, 'Identifier of the quality-of-service policy.'),
    WriteHardeningMethod: fixed(t.nullable(t.enum(CacheAttributes)), 'Default', 'What the guest is told of the write cache.'),
    ComputerName: property(t.string, 'Host the drive is on.'),
    IsDeleted: fixed(t.bool, false, 'Whether the drive has been removed.'),
  },
  keys: ['VMName', 'VMId', 'Id', 'ControllerType', 'ControllerNumber', 'ControllerLocation', 'Path', 'ComputerName'],
  text: '{Name}',
  view: {
    table: [
      { property: 'VMName', width: 10 },
      { property: 'ControllerType', width: 14 },
      { property: 'ControllerNumber', width: 16 },
      { property: 'ControllerLocation', width: 18 },
      { property: 'DiskNumber', width: 10 },
      { property: 'Path', width: 44 },
    ],
  },
});

export type HardDiskDriveObject = WireOf<typeof HardDiskDrive>;
