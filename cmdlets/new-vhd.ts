import { alwaysSo, defineCmdlet, parameter, placed, t, within } from './define.js';
import { remote } from './parameters/remote.js';
import { asJob } from './parameters/switches.js';
import { VirtualHardDiskPmemAddressAbstractionType } from './types/enums.js';
import { VirtualHardDisk } from './types/virtual-hard-disk.js';

export default defineCmdlet({
  verb: 'New',
  noun: 'VHD',
  className: 'NewVhd',
  namespace: 'Microsoft.Vhd.PowerShell.Cmdlets',
  defaultSet: 'DynamicWithoutSource',
  changes: true,
  outputs: [VirtualHardDisk],
  synopsis: 'Creates a virtual hard disk file.',
  description:
    'Creates a dynamic (the default) or fixed disk file. The format comes from the extension: .vhdx, or, as an extension of ours, raw with .img or .raw ' +
    '(with -Fixed its space is allocated). An existing file is never replaced.',
  examples: [
    {
      title: 'A dynamic disk',
      code: 'New-VHD -Path /srv/slow/web01.vhdx -SizeBytes 40GB -Dynamic',
      remarks: 'Creates a dynamic VHDX of 40 GB; the file is small until it is written.',
    },
    {
      title: 'A raw image',
      code: 'New-VHD -Path /srv/slow/data.img -SizeBytes 10GB -Fixed',
      remarks: 'Creates a raw image of 10 GB with all its space allocated.',
    },
  ],
  parameters: {
    Path: parameter(t.array(t.path), {
      help: 'Disk files to create.',
      sets: placed({ mandatory: true, position: 0, byValue: true, byName: true }),
      validate: ['notNullOrEmpty'],
    }),
    ParentPath: parameter(t.path, {
      help: 'Parent of a differencing disk. Not implemented.',
      sets: placed({ mandatory: true, position: 1 }, 'Differencing'),
      validate: ['notNullOrEmpty'],
      notImplemented: true,
    }),
    SizeBytes: parameter(t.uint64, {
      help: 'Size in bytes.',
      sets: { ...placed({ mandatory: true, position: 1 }, 'FixedWithoutSource', 'DynamicWithoutSource'), Differencing: { position: 2 } },
      validate: ['notNullOrEmpty'],
    }),
    SourceDisk: parameter(t.uint32, {
      help: 'Number of a disk to copy. Not implemented.',
      sets: placed({ mandatory: true, byName: true }, 'FixedWithSource', 'DynamicWithSource'),
      aliases: ['Number'],
      validate: ['notNullOrEmpty'],
      notImplemented: true,
    }),
    Dynamic: parameter(t.switch, {
      help: 'Space is allocated when it is written.',
      sets: { DynamicWithSource: { mandatory: true }, DynamicWithoutSource: {} },
    }),
    Fixed: parameter(t.switch, {
      help: 'All space is allocated now.',
      sets: placed({ mandatory: true }, 'FixedWithSource', 'FixedWithoutSource'),
    }),
    Differencing: parameter(t.switch, {
      help: 'A differencing disk. Not implemented.',
      sets: within('Differencing'),
      notImplemented: true,
    }),
    BlockSizeBytes: parameter(t.uint32, {
      help: 'Allocation unit of a dynamic disk in bytes. Default: 32 MB.',
      validate: ['notNullOrEmpty'],
    }),
    LogicalSectorSizeBytes: parameter(t.uint32, {
      help: 'Logical sector in bytes. Default: 512.',
      sets: within('FixedWithoutSource', 'DynamicWithoutSource'),
      validate: [{ set: ['512', '4096'] }, 'notNullOrEmpty'],
    }),
    PhysicalSectorSizeBytes: parameter(t.uint32, {
      help: 'Physical sector in bytes. Default: 4096.',
      sets: within('Differencing', 'FixedWithoutSource', 'DynamicWithoutSource'),
      validate: [{ set: ['512', '4096'] }, 'notNullOrEmpty'],
    }),
    AddressAbstractionType: parameter(t.enum(VirtualHardDiskPmemAddressAbstractionType), {
      help: 'Address abstraction of persistent memory.',
      sets: within('FixedWithoutSource'),
      validate: [{ set: ['None', 'BTT'] }],
      inForce: alwaysSo(VirtualHardDisk, 'AddressAbstractionType'),
    }),
    DataAlignmentBytes: parameter(t.uint64, {
      help: 'Alignment of data in the file; 0 is that of the format.',
      sets: within('FixedWithoutSource'),
      validate: [{ set: ['0', '1GB', '1073741824'] }],
      inForce: ['0'],
    }),
    AsJob: asJob,
    ...remote(),
  },
});
