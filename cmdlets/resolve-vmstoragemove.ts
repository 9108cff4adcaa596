import { defineCmdlet, parameter, placed, t } from './define.js';
import { force } from './parameters/switches.js';

export default defineCmdlet({
  verb: 'Resolve',
  noun: 'VMStorageMove',
  namespace: 'VMStorage.PowerShell.Commands',
  extension: true,
  defaultSet: 'Name',
  changes: true,
  outputs: [],
  synopsis: 'Says which files are the disks of a virtual machine, where the records of its move do not.',
  description:
    'A move writes down how far it is in a journal, in a record of the host and in the registry. When one of them is damaged, missing or an older copy, and they do not agree on which files hold ' +
    'the newest data, the virtual machine waits and Get-VM says why. This cmdlet tells what is known of each side and of each record in its question, and with -WhatIf; then it makes the files ' +
    'of one side the disks. It always asks, unless -Force is given; a script that nobody can answer for has to give it. Nothing is deleted: the other files stay, and so do the records, under ' +
    'another name. An own cmdlet: Hyper-V does not have it.',
  examples: [
    {
      title: 'Look',
      code: 'Resolve-VMStorageMove web01 -Use Destination -WhatIf',
      remarks: 'Tells what is known of each side and of each record, and changes nothing.',
    },
    {
      title: 'Decide',
      code: 'Resolve-VMStorageMove -VMName web01 -Use Destination',
      remarks: 'Tells the same and asks, then web01 goes on with the files it was moved to.',
    },
  ],
  parameters: {
    Name: parameter(t.string, {
      help: 'Name of the virtual machine.',
      sets: placed({ mandatory: true, position: 0 }),
      aliases: ['VMName'],
      validate: ['notNullOrEmpty'],
      complete: 'vmName',
    }),
    Use: parameter(t.string, {
      help: 'Source: the files it was moved from. Destination: those it was moved to.',
      sets: placed({ mandatory: true }),
      validate: [{ set: ['Source', 'Destination'] }],
    }),
    Force: force,
  },
});
