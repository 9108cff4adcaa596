import { defineCmdlet, parameter, placed, t } from './define.js';
import { remote } from './parameters/remote.js';
import { VirtualHardDisk } from './types/virtual-hard-disk.js';

const subject = { mandatory: true, position: 0, byValue: true, byName: true } as const;

export default defineCmdlet({
  verb: 'Get',
  noun: 'VHD',
  namespace: 'Microsoft.Vhd.PowerShell.Cmdlets',
  defaultSet: 'Path',
  outputs: [VirtualHardDisk],
  synopsis: 'Gets what a virtual hard disk file is.',
  description:
    'Gets format, type, sizes and identifier of disk files, by path or of every disk of a virtual machine. A file in use is asked about at its user.',
  examples: [
    { title: 'One file', code: 'Get-VHD -Path /srv/slow/web01.vhdx', remarks: 'Returns what web01.vhdx is.' },
    {
      title: 'The disks of a virtual machine',
      code: 'Get-VM web01 | Select-Object VMId | Get-VHD',
      remarks: 'Returns the disk files of web01.',
    },
  ],
  parameters: {
    DiskNumber: parameter(t.uint32, {
      help: 'Number of a mounted disk. Not implemented.',
      sets: placed({ mandatory: true, position: 0, byName: true }, 'Disk'),
      aliases: ['Number'],
      validate: ['notNullOrEmpty'],
      notImplemented: true,
    }),
    Path: parameter(t.array(t.path), {
      help: 'Disk files.',
      sets: placed(subject, 'Path'),
      aliases: ['FullName'],
      validate: ['notNullOrEmpty'],
    }),
    VMId: parameter(t.array(t.guid), {
      help: 'Identifiers of virtual machines.',
      sets: placed(subject, 'VMId'),
      aliases: ['Id'],
      validate: ['notNullOrEmpty'],
    }),
    ...remote(),
  },
});
