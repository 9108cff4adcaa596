import { defineCmdlet, parameter, placed, t } from './define.js';
import { machines, names } from './parameters/machine.js';
import { passthru } from './parameters/switches.js';
import { VMStorageMove } from './types/vm-storage-move.js';

export default defineCmdlet({
  verb: 'Stop',
  noun: 'VMStorageMove',
  namespace: 'VMStorage.PowerShell.Commands',
  extension: true,
  defaultSet: 'Name',
  changes: true,
  outputs: [VMStorageMove],
  synopsis: 'Stops a storage move.',
  description:
    'Stops the storage move of a virtual machine, or one move by its identifier. Before the switch the virtual machine stays on its files and the destination is cleaned; after it the move ' +
    'finishes, with a warning. An own cmdlet: Hyper-V does not have it.',
  examples: [
    { title: 'One move', code: 'Stop-VMStorageMove web01', remarks: 'Stops the move of web01 and waits until its destination is clean.' },
    { title: 'All moves', code: 'Get-VMStorageMove | Stop-VMStorageMove -WhatIf', remarks: 'Says which moves would be stopped.' },
  ],
  parameters: {
    Name: names('Name'),
    VM: machines('VMObject'),
    MoveId: parameter(t.array(t.guid), {
      help: 'Identifiers of moves, as Get-VMStorageMove returns them.',
      sets: placed({ mandatory: true, byName: true }, 'MoveId'),
      validate: ['notNullOrEmpty'],
    }),
    PassThru: passthru,
  },
});
