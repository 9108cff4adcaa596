import { CONFIGURATION_VERSION } from '../src/model/vm.js';
import { defineCmdlet, parameter, placed, t, within } from './define.js';
import { directBoot } from './parameters/direct-boot.js';
import { remote } from './parameters/remote.js';
import { allowForeignContent, asJob } from './parameters/switches.js';
import { BootDevice, GuestIsolationType } from './types/enums.js';
import { VirtualMachine } from './types/virtual-machine.js';

export default defineCmdlet({
  verb: 'New',
  noun: 'VM',
  defaultSet: 'No VHD',
  changes: true,
  outputs: [VirtualMachine],
  synopsis: 'Creates a virtual machine.',
  description:
    'Creates a virtual machine that is off, with no disk, with an existing disk file (-VHDPath), or with a new one (-NewVHDPath and -NewVHDSizeBytes). ' +
    'Generation 1 boots by BIOS, generation 2 by UEFI. As an extension, -KernelPath boots a kernel directly.',
  examples: [
    {
      title: 'With an existing disk',
      code: 'New-VM -Name web01 -MemoryStartupBytes 512MB -Path /srv/slow -VHDPath /srv/slow/web01.vhdx -Generation 2',
      remarks: 'Creates the virtual machine web01, its configuration in /srv/slow/Virtual Machines.',
    },
    {
      title: 'With a new disk',
      code: 'New-VM web02 1GB -NewVHDPath /srv/slow/web02.vhdx -NewVHDSizeBytes 40GB',
      remarks: 'Creates a dynamic disk of 40 GB and a virtual machine of generation 1 with it.',
    },
  ],
  parameters: {
    Name: parameter(t.string, {
      help: 'Name of the new virtual machine. Default: New Virtual Machine.',
      sets: placed({ position: 0, byValue: true, byName: true }),
      aliases: ['VMName'],
      validate: ['notNullOrEmpty'],
    }),
    MemoryStartupBytes: parameter(t.nullable(t.int64), {
      help: 'Bytes of memory it starts with. Default: 512 MB.',
      sets: placed({ position: 1 }),
      validate: ['notNull'],
    }),
    BootDevice: parameter(t.nullable(t.enum(BootDevice)), {
      help: 'First device to boot from: its first disk.',
      validate: ['notNullOrEmpty'],
      inForce: ['IDE', 'VHD'],
    }),
    NoVHD: parameter(t.switch, { help: 'Creates it without a disk.', sets: within('No VHD') }),
    SwitchName: parameter(t.string, {
      help: 'Virtual switch to connect to. Not implemented.',
      validate: ['notNullOrEmpty'],
      notImplemented: true,
    }),
    NewVHDPath: parameter(t.pathOrFileName, {
      help:
        'Disk file to create, dynamic. A file name alone is put into the folder "Virtual Hard Disks" under -Path; without -Path, ' +
        "into the host's folder for disks (Get-VMHost).",
      sets: placed({ mandatory: true }, 'New VHD'),
      validate: ['notNullOrEmpty'],
    }),
    NewVHDSizeBytes: parameter(t.uint64, {
      help: 'Size of the new disk in bytes.',
      sets: placed({ mandatory: true }, 'New VHD'),
      validate: ['notNullOrEmpty'],
    }),
    VHDPath: parameter(t.path, {
      help: 'Existing disk file: .vhdx, or raw with .img or .raw.',
      sets: placed({ mandatory: true }, 'Existing VHD'),
      validate: ['notNullOrEmpty'],
    }),
    Path: parameter(t.path, {
      help: 'Folder for the configuration. Default: VirtualMachinePath of the host.',
      validate: ['notNullOrEmpty'],
    }),
    SourceGuestStatePath: parameter(t.path, { help: 'Guest state file to start from. Not implemented.', notImplemented: true }),
    Version: parameter(t.version, { help: 'Version of the configuration.', validate: ['notNull'], inForce: [CONFIGURATION_VERSION] }),
    Prerelease: parameter(t.switch, { help: 'Uses a pre-release configuration version. Not implemented.', notImplemented: true }),
    Experimental: parameter(t.switch, { help: 'Uses an experimental configuration version. Not implemented.', notImplemented: true }),
    Generation: parameter(t.nullable(t.int16), {
      help: '1 (BIOS) or 2 (UEFI). Default: 1.',
      sets: placed({ position: 2 }),
      validate: [{ set: ['1', '2'] }, 'notNullOrEmpty'],
    }),
    GuestStateIsolationType: parameter(t.nullable(t.enum(GuestIsolationType)), {
      help: 'Isolation of the guest.',
      inForce: ['Disabled'],
    }),
    Force: parameter(t.switch, { help: 'Does it without asking.', inForce: [true] }),
    AsJob: asJob,
    ...remote(),
    ...directBoot,
    AllowForeignContent: allowForeignContent(within('Existing VHD')),
  },
});
