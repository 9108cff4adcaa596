import { defineCmdlet, parameter, placed, t, within } from './define.js';
import { machines, subject, vmNames } from './parameters/machine.js';
import { remote } from './parameters/remote.js';
import { ControllerType } from './types/enums.js';
import { HardDiskDrive } from './types/hard-disk-drive.js';
import { VMDriveController } from './types/vm-drive-controller.js';
import { VMSnapshot } from './types/vm-snapshot.js';

const byMachine = within('VMName', 'VMObject', 'VMSnapshot');

export default defineCmdlet({
  verb: 'Get',
  noun: 'VMHardDiskDrive',
  defaultSet: 'VMName',
  outputs: [HardDiskDrive],
  synopsis: 'Gets the hard disk drives of a virtual machine.',
  description: 'Gets the hard disk drives of virtual machines, all of them or those at a controller and location.',
  examples: [
    { title: 'All drives of one', code: 'Get-VMHardDiskDrive -VMName web01', remarks: 'Returns the drives of web01.' },
    {
      title: 'Their files',
      code: 'Get-VM | Get-VMHardDiskDrive | Get-VHD',
      remarks: 'Returns the disk file behind every drive of every virtual machine.',
    },
  ],
  parameters: {
    ...remote(within('VMName')),
    VMName: vmNames('VMName'),
    VM: machines('VMObject'),
    VMSnapshot: parameter(t.key(VMSnapshot), {
      help: 'A checkpoint. Not implemented.',
      sets: placed(subject, 'VMSnapshot'),
      aliases: ['VMCheckpoint'],
      validate: ['notNullOrEmpty'],
      notImplemented: true,
    }),
    ControllerLocation: parameter(t.nullable(t.int32), { help: 'Location on the controller.', validate: ['notNull'] }),
    VMDriveController: parameter(t.array(t.key(VMDriveController)), {
      help: 'A disk controller. Not implemented.',
      sets: placed(subject, 'VMDriveController'),
      notImplemented: true,
    }),
    ControllerNumber: parameter(t.nullable(t.int32), { help: 'Number of the controller.', sets: byMachine, validate: ['notNull'] }),
    ControllerType: parameter(t.nullable(t.enum(ControllerType)), { help: 'Kind of controller.', sets: byMachine }),
  },
});
