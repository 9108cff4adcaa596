import { alwaysSo, defineCmdlet, everySet, parameter, placed, t, within } from './define.js';
import { machines, subject, vmNames } from './parameters/machine.js';
import { cimSession, computerName, credential } from './parameters/remote.js';
import { allowForeignContent, allowUnverifiedPaths, passthru } from './parameters/switches.js';
import { CacheAttributes, ControllerType } from './types/enums.js';
import { HardDiskDrive } from './types/hard-disk-drive.js';
import { VMDriveController } from './types/vm-drive-controller.js';

export default defineCmdlet({
  verb: 'Add',
  noun: 'VMHardDiskDrive',
  defaultSet: 'VMName',
  changes: true,
  outputs: [HardDiskDrive],
  synopsis: 'Attaches a disk to a virtual machine.',
  description:
    'Attaches a disk file to a virtual machine that is off, at the given controller and location or at the first free one. ' +
    'The format comes from the extension: .vhdx, or raw with .img or .raw. A block device is attached by its /dev path.',
  examples: [
    {
      title: 'At the first free location',
      code: 'Add-VMHardDiskDrive -VMName web01 -Path /srv/slow/data.img',
      remarks: 'Attaches the raw image data.img to web01.',
    },
    {
      title: 'At a location',
      code: 'Get-VM web01 | Add-VMHardDiskDrive -ControllerType SCSI -ControllerNumber 0 -ControllerLocation 3 -Path /srv/slow/data.vhdx',
      remarks: 'Attaches data.vhdx at location 3 of the first SCSI controller.',
    },
  ],
  parameters: {
    CimSession: cimSession(within('VMName')),
    ComputerName: computerName(within('VMName'), ['PSComputerName']),
    Credential: credential(within('VMName')),
    VMName: vmNames('VMName'),
    VM: machines('VMObject'),
    VMDriveController: parameter(t.key(VMDriveController), {
      help: 'A disk controller. Not implemented.',
      sets: placed(subject, 'VMDriveController'),
      notImplemented: true,
    }),
    ControllerType: parameter(t.nullable(t.enum(ControllerType)), {
      help: 'Kind of controller.',
      sets: placed({ position: 1 }, 'VMName', 'VMObject'),
    }),
    ControllerNumber: parameter(t.nullable(t.int32), {
      help: 'Number of the controller.',
      sets: placed({ position: 2 }, 'VMObject', 'VMName'),
      validate: ['notNull'],
    }),
    ControllerLocation: parameter(t.nullable(t.int32), {
      help: 'Location on the controller.',
      sets: placed({ position: 3 }),
      validate: ['notNull'],
    }),
    Path: parameter(t.path, {
      help: 'Disk file, or the /dev path of a block device.',
      sets: placed({ position: 4 }),
      validate: ['notNullOrEmpty'],
    }),
    DiskNumber: parameter(t.uint32, {
      help: 'Number of a pass-through disk. Not implemented: use its /dev path.',
      sets: placed({ byName: true }),
      aliases: ['Number'],
      notImplemented: true,
    }),
    ResourcePoolName: parameter(t.string, { help: 'Resource pool.', validate: ['notNull'], inForce: alwaysSo(HardDiskDrive, 'PoolName') }),
    SupportPersistentReservations: parameter(t.switch, {
      help: 'Offers persistent reservations. Not implemented.',
      aliases: ['ShareVirtualDisk'],
      notImplemented: true,
    }),
    AllowUnverifiedPaths: allowUnverifiedPaths,
    MaximumIOPS: parameter(t.nullable(t.uint64), {
      help: 'Limit of requests per second; 0 is none.',
      inForce: alwaysSo(HardDiskDrive, 'MaximumIOPS'),
    }),
    MinimumIOPS: parameter(t.nullable(t.uint64), {
      help: 'Wanted requests per second; 0 is none.',
      inForce: alwaysSo(HardDiskDrive, 'MinimumIOPS'),
    }),
    QoSPolicyID: parameter(t.string, {
      help: 'Quality-of-service policy; zeros are none.',
      inForce: alwaysSo(HardDiskDrive, 'QoSPolicyID'),
    }),
    QoSPolicy: parameter(t.cimInstance, { help: 'Quality-of-service policy. Not implemented.', notImplemented: true }),
    Passthru: passthru,
    AllowForeignContent: allowForeignContent({ [everySet]: {} }),
    OverrideCacheAttributes: parameter(t.nullable(t.enum(CacheAttributes)), {
      help: 'What the guest is told of the write cache.',
      inForce: alwaysSo(HardDiskDrive, 'WriteHardeningMethod'),
    }),
  },
});
