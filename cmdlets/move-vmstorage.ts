import { alwaysSo, defineCmdlet, parameter, placed, t, within } from './define.js';
import { subject } from './parameters/machine.js';
import { remote } from './parameters/remote.js';
import { allowUnverifiedPaths, asJob } from './parameters/switches.js';
import { HardDiskDrive } from './types/hard-disk-drive.js';
import { VirtualMachine } from './types/virtual-machine.js';

const single = ['NameSingleDestination', 'VMSingleDestination'] as const;
const multiple = within('NameMultipleDestinations', 'VMMultipleDestinations');

export default defineCmdlet({
  verb: 'Move',
  noun: 'VMStorage',
  defaultSet: 'NameSingleDestination',
  changes: true,
  outputs: [],
  synopsis: 'Moves the storage of a virtual machine while it runs.',
  description:
    'Moves disks, configuration, checkpoint and paging folders of a virtual machine, all under one folder (-DestinationStoragePath) or each to its own. ' +
    'The guest goes on reading and writing. The disks are copied, mirrored and verified, then all switch together; only then the source files are deleted. ' +
    'When it fails or is stopped before the switch, the virtual machine stays on its files and nothing is left in the destination. ' +
    'Ctrl+C and Stop-Job stop it; a client that vanishes does not.',
  examples: [
    {
      title: 'Everything to one folder',
      code: 'Move-VMStorage -VMName web01 -DestinationStoragePath /mnt/fast',
      remarks: 'Moves the disks of web01 to /mnt/fast/Virtual Hard Disks and its configuration to /mnt/fast/Virtual Machines.',
    },
    {
      title: 'One disk, as a job',
      code:
        "Move-VMStorage web01 -Vhds @{ SourceFilePath = '/mnt/fast/Virtual Hard Disks/web01.vhdx'; DestinationFilePath = '/srv/slow/web01.vhdx' } -AsJob | " +
        'Receive-Job -Wait',
      remarks: 'Moves one disk of web01 in a background job and waits for it.',
    },
    {
      title: 'Several virtual machines',
      code: 'Get-VM web* | Move-VMStorage -DestinationStoragePath /mnt/fast -WhatIf',
      remarks: 'Says which virtual machines would be moved.',
    },
    {
      title: 'The plan as an object',
      code: '(Move-VMStorage web01 /mnt/fast -WhatIf -PassPlan).Items',
      remarks: 'Returns what would move from where to where, and moves nothing.',
    },
  ],
  parameters: {
    ...remote(within('NameSingleDestination', 'NameMultipleDestinations')),
    Name: parameter(t.string, {
      help: 'Name of the virtual machine.',
      sets: placed(subject, 'NameSingleDestination', 'NameMultipleDestinations'),
      aliases: ['VMName'],
      validate: ['notNullOrEmpty'],
      complete: 'vmName',
    }),
    VM: parameter(t.key(VirtualMachine), {
      help: 'The virtual machine, as Get-VM returns it.',
      sets: placed(subject, 'VMSingleDestination', 'VMMultipleDestinations'),
      validate: ['notNullOrEmpty'],
    }),
    DestinationStoragePath: parameter(t.path, {
      help: 'Folder everything moves under; it is created if need be.',
      sets: placed({ mandatory: true, position: 1 }, ...single),
      validate: ['notNullOrEmpty'],
    }),
    VirtualMachinePath: parameter(t.path, { help: 'Folder the configuration moves to.', sets: multiple, validate: ['notNullOrEmpty'] }),
    SnapshotFilePath: parameter(t.path, {
      help: 'Folder checkpoint files move to.',
      sets: multiple,
      aliases: ['CheckpointFileLocation', 'SnapshotFileLocation'],
      validate: ['notNullOrEmpty'],
    }),
    SmartPagingFilePath: parameter(t.path, { help: 'Folder paging files move to.', sets: multiple, validate: ['notNullOrEmpty'] }),
    Vhds: parameter(t.array(t.hashtable(['SourceFilePath', 'DestinationFilePath'])), {
      help: 'Disks to move, each with the keys SourceFilePath and DestinationFilePath; both have the same file name.',
      sets: multiple,
      validate: ['notNullOrEmpty'],
    }),
    ResourcePoolName: parameter(t.string, {
      help: 'Resource pool.',
      validate: ['notNullOrEmpty'],
      inForce: alwaysSo(HardDiskDrive, 'PoolName'),
    }),
    RetainVhdCopiesOnSource: parameter(t.switch, { help: 'Keeps the source disk files after the move.' }),
    RemoveSourceUnmanagedVhds: parameter(t.switch, {
      help: 'Deletes source disk files that no virtual machine uses any more, parents included; there are no parents yet.',
    }),
    AllowUnverifiedPaths: allowUnverifiedPaths,
    RequireFullSize: parameter(t.switch, {
      help:
        'Refuses the move unless all that its disks may grow to is free at the destination. Without it the data and a reserve have to be, and ' +
        'the rest is a warning. An extension: Hyper-V does not have it.',
      extension: true,
    }),
    PassPlan: parameter(t.switch, {
      help:
        'Returns the plan of the move as an object before it is begun, also when it is refused: what moves from where to where, bytes, room, ' +
        'warnings and refusals. With -WhatIf nothing else is done. An extension: Hyper-V does not have it.',
      extension: true,
    }),
    AsJob: asJob,
  },
});
