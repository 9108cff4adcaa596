/** A checkpoint. The type exists because parameters and scripts name it; no cmdlet of ours makes one yet. */
import { defineObject, fixed, property, t, type WireOf } from '../define.js';
import { SnapshotType, VMState } from './enums.js';
import { HardDiskDrive } from './hard-disk-drive.js';

export const VMSnapshot = defineObject({
  name: 'VMSnapshot',
  namespace: 'Microsoft.HyperV.PowerShell',
  base: 'VirtualMachineBase',
  help: 'A checkpoint of a virtual machine.',
  properties: {
    VMName: property(t.string, 'Name of the virtual machine.'),
    VMId: property(t.guid, 'Identifier of the virtual machine.'),
    Name: property(t.string, 'Name of the checkpoint.'),
    Id: property(t.guid, 'Identifier of the checkpoint.'),
    SnapshotType: property(t.enum(SnapshotType), 'Kind of checkpoint.'),
    CreationTime: property(t.datetime, 'When it was made.'),
    ParentSnapshotId: property(t.nullable(t.guid), 'Checkpoint before it.'),
    ParentSnapshotName: property(t.nullable(t.string), 'Name of the checkpoint before it.'),
    State: property(t.enum(VMState), 'State of the virtual machine in it.'),
    Path: property(t.string, 'Folder of its configuration.'),
    Notes: property(t.string, 'Notes.'),
    HardDrives: property(t.array(t.object(HardDiskDrive)), 'Hard disk drives in it.'),
    IsAutomaticCheckpoint: fixed(t.bool, false, 'Whether it was made by itself.'),
    ComputerName: property(t.string, 'Host it is on.'),
    IsDeleted: fixed(t.bool, false, 'Whether it has been removed.'),
  },
  keys: ['Id', 'Name', 'VMId', 'VMName', 'ComputerName'],
  text: '{Name}',
  aliases: { ParentCheckpointId: 'ParentSnapshotId', ParentCheckpointName: 'ParentSnapshotName', CheckpointType: 'SnapshotType' },
  view: {
    table: [
      { property: 'VMName', width: 16 },
      { property: 'Name', width: 32 },
      { property: 'SnapshotType', width: 12 },
      { property: 'CreationTime', width: 20 },
      { property: 'ParentSnapshotName', width: 32 },
    ],
  },
});

export type VMSnapshotObject = WireOf<typeof VMSnapshot>;
