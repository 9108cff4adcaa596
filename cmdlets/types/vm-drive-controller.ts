/** A disk controller. The type exists because parameters name it; no cmdlet of ours returns one yet. */
import { defineObject, fixed, property, t, type WireOf } from '../define.js';
import { ControllerType } from './enums.js';
import { HardDiskDrive } from './hard-disk-drive.js';

export const VMDriveController = defineObject({
  name: 'VMDriveController',
  namespace: 'Microsoft.HyperV.PowerShell',
  help: 'A disk controller of a virtual machine.',
  properties: {
    VMName: property(t.string, 'Name of the virtual machine.'),
    VMId: property(t.guid, 'Identifier of the virtual machine.'),
    Name: property(t.string, 'Name of the controller.'),
    Id: property(t.string, 'Identifier of the controller.'),
    ControllerType: property(t.enum(ControllerType), 'Kind of controller.'),
    ControllerNumber: property(t.int32, 'Number of the controller.'),
    Drives: property(t.array(t.object(HardDiskDrive)), 'Drives on it.'),
    ComputerName: property(t.string, 'Host it is on.'),
    IsDeleted: fixed(t.bool, false, 'Whether it has been removed.'),
  },
  keys: ['VMName', 'VMId', 'Id', 'ControllerType', 'ControllerNumber', 'ComputerName'],
  text: '{Name}',
  view: {
    table: [
      { property: 'VMName', width: 16 },
      { property: 'ControllerType', width: 14 },
      { property: 'ControllerNumber', width: 16 },
      { property: 'Drives', width: 60 },
    ],
  },
});

export type VMDriveControllerObject = WireOf<typeof VMDriveController>;
