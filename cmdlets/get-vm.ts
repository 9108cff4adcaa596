import { defineCmdlet, parameter, placed, t, within } from './define.js';
import { remote } from './parameters/remote.js';
import { VirtualMachine } from './types/virtual-machine.js';

export default defineCmdlet({
  verb: 'Get',
  noun: 'VM',
  defaultSet: 'Name',
  outputs: [VirtualMachine],
  synopsis: 'Gets the virtual machines of the host.',
  description:
    'Gets all virtual machines, or those with the given names or identifier. A name without wildcards that no virtual machine has is an error; ' +
    'the others are returned all the same. While the storage of a virtual machine moves, Status shows the phase and the percentage.',
  examples: [
    { title: 'All virtual machines', code: 'Get-VM', remarks: 'Returns every virtual machine of the host.' },
    {
      title: 'Where the disks of one are',
      code: '(Get-VM web01).HardDrives.Path',
      remarks: 'Returns the disk files of the virtual machine web01.',
    },
  ],
  parameters: {
    Name: parameter(t.array(t.string), {
      help: 'Names of the virtual machines; wildcards are allowed.',
      sets: placed({ position: 0, byValue: true }, 'Name'),
      aliases: ['VMName'],
      validate: ['notNullOrEmpty'],
      complete: 'vmName',
      wildcards: true,
    }),
    ...remote(within('Name', 'Id')),
    Id: parameter(t.nullable(t.guid), {
      help: 'Identifier of the virtual machine.',
      sets: placed({ position: 0, byValue: true, byName: true }, 'Id'),
      validate: ['notNull'],
    }),
    ClusterObject: parameter(t.psobject('Microsoft.FailoverClusters.PowerShell.ClusterObject'), {
      help: 'A cluster resource or group. Not implemented.',
      sets: placed({ mandatory: true, position: 0, byValue: true }, 'ClusterObject'),
      validate: ['notNullOrEmpty'],
      notImplemented: true,
    }),
  },
});
