import { defineCmdlet, parameter, placed, t } from './define.js';
import { machines } from './parameters/machine.js';
import { VMStorageMove } from './types/vm-storage-move.js';

export default defineCmdlet({
  verb: 'Get',
  noun: 'VMStorageMove',
  namespace: 'VMStorage.PowerShell.Commands',
  extension: true,
  defaultSet: 'Name',
  outputs: [VMStorageMove],
  synopsis: 'Gets the storage moves of the host.',
  description:
    'Gets the storage moves that wait, run or have ended since the host started, with phase, progress, speed and what the guest notices of them. ' +
    'An own cmdlet: Hyper-V does not have it.',
  examples: [
    { title: 'All moves', code: 'Get-VMStorageMove', remarks: 'Returns every storage move.' },
    {
      title: 'The receipt of one',
      code: '(Get-VMStorageMove web01).Receipt | ConvertFrom-Json',
      remarks: 'Returns what was verified for each disk of web01.',
    },
  ],
  parameters: {
    Name: parameter(t.array(t.string), {
      help: 'Names of virtual machines; wildcards are allowed.',
      sets: placed({ position: 0, byValue: true }, 'Name'),
      aliases: ['VMName'],
      validate: ['notNullOrEmpty'],
      complete: 'vmName',
      wildcards: true,
    }),
    VM: machines('VMObject'),
    MoveId: parameter(t.array(t.guid), {
      help: 'Identifiers of moves.',
      sets: placed({ mandatory: true, byName: true }, 'MoveId'),
      validate: ['notNullOrEmpty'],
    }),
  },
});
