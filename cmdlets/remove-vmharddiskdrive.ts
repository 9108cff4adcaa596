import { defineCmdlet, parameter, placed, t, within } from './define.js';
import { subject } from './parameters/machine.js';
import { remote } from './parameters/remote.js';
import { passthru } from './parameters/switches.js';
import { ControllerType } from './types/enums.js';
import { HardDiskDrive } from './types/hard-disk-drive.js';

export default defineCmdlet({
  verb: 'Remove',
  noun: 'VMHardDiskDrive',
  defaultSet: 'VMName',
  changes: true,
  outputs: [HardDiskDrive],
  synopsis: 'Detaches a disk from a virtual machine.',
  description: 'Detaches a disk from a virtual machine that is off. The disk file stays.',
  examples: [
    {
      title: 'By its location',
      code: 'Remove-VMHardDiskDrive -VMName web01 -ControllerType SCSI -ControllerNumber 0 -ControllerLocation 1',
      remarks: 'Detaches the disk at location 1 of the first SCSI controller of web01.',
    },
    {
      title: 'From the pipeline',
      code: 'Get-VMHardDiskDrive web01 -ControllerLocation 1 | Remove-VMHardDiskDrive -Passthru',
      remarks: 'The same, and returns the drive.',
    },
  ],
  parameters: {
    ...remote(within('VMName')),
    VMName: parameter(t.string, {
      help: 'Name of the virtual machine.',
      sets: placed({ mandatory: true, position: 0 }, 'VMName'),
      validate: ['notNullOrEmpty'],
      complete: 'vmName',
    }),
    VMHardDiskDrive: parameter(t.array(t.key(HardDiskDrive)), {
      help: 'The drives, as Get-VMHardDiskDrive returns them.',
      sets: placed(subject, 'VMHardDiskDrive'),
      validate: ['notNullOrEmpty'],
    }),
    ControllerType: parameter(t.nullable(t.enum(ControllerType)), {
      help: 'Kind of controller.',
      sets: placed({ mandatory: true, position: 1 }, 'VMName'),
      validate: ['notNullOrEmpty'],
    }),
    ControllerNumber: parameter(t.nullable(t.int32), {
      help: 'Number of the controller.',
      sets: placed({ mandatory: true, position: 2 }, 'VMName'),
      validate: ['notNullOrEmpty'],
    }),
    ControllerLocation: parameter(t.nullable(t.int32), {
      help: 'Location on the controller.',
      sets: placed({ mandatory: true, position: 3 }, 'VMName'),
    }),
    Passthru: passthru,
  },
});
