/** A disk file: what Get-VHD and New-VHD return. */
import { defineObject, fixed, property, t, type WireOf } from '../define.js';
import { VhdFormat, VhdType, VirtualHardDiskPmemAddressAbstractionType } from './enums.js';

export const VirtualHardDisk = defineObject({
  name: 'VirtualHardDisk',
  namespace: 'Microsoft.Vhd.PowerShell',
  help: 'A virtual hard disk file.',
  properties: {
    ComputerName: property(t.string, 'Host the file is on.'),
    Path: property(t.string, 'The file.'),
    VhdFormat: property(t.enum(VhdFormat), 'VHD or VHDX; Unknown for a raw image.'),
    VhdType: property(t.enum(VhdType), 'Fixed, Dynamic or Differencing.'),
    FileSize: property(t.uint64, 'Length of the file in bytes.'),
    Size: property(t.uint64, 'Size the guest sees in bytes.'),
    MinimumSize: fixed(t.nullable(t.uint64), null, 'Least bytes it can be shrunk to; nothing when unknown.'),
    LogicalSectorSize: property(t.uint32, 'Logical sector in bytes.'),
    PhysicalSectorSize: property(t.uint32, 'Physical sector in bytes.'),
    BlockSize: property(t.uint32, 'Allocation unit in bytes; 0 for a fixed disk.'),
    ParentPath: fixed(t.string, '', 'Parent of a differencing disk.'),
    DiskIdentifier: property(t.string, 'Identifier inside the file, upper case; empty for a raw image.'),
    FragmentationPercentage: fixed(t.nullable(t.uint32), null, 'How fragmented a dynamic disk is.'),
    Alignment: fixed(t.uint32, 1, '1 when blocks are aligned to sectors.'),
    Attached: property(t.bool, 'Whether something has it open.'),
    DiskNumber: fixed(t.nullable(t.uint32), null, 'Number of the mounted disk.'),
    IsPMEMCompatible: fixed(t.bool, false, 'Whether it can be persistent memory.'),
    AddressAbstractionType: fixed(t.enum(VirtualHardDiskPmemAddressAbstractionType), 'None', 'Address abstraction of persistent memory.'),
  },
  keys: ['Path', 'ComputerName'],
  text: '{Path}',
  aliases: { Number: 'DiskNumber' },
  view: {
    list: [
      'ComputerName',
      'Path',
      'VhdFormat',
      'VhdType',
      'FileSize',
      'Size',
      'MinimumSize',
      'LogicalSectorSize',
      'PhysicalSectorSize',
      'BlockSize',
      'ParentPath',
      'DiskIdentifier',
      'FragmentationPercentage',
      'Alignment',
      'Attached',
      'DiskNumber',
      'IsPMEMCompatible',
      'AddressAbstractionType',
      'Number',
    ],
  },
});

export type VirtualHardDiskObject = WireOf<typeof VirtualHardDisk>;
