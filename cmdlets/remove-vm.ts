import { defineCmdlet, within } from './define.js';
import { machines, names } from './parameters/machine.js';
import { remote } from './parameters/remote.js';
import { asJob, force, passthru } from './parameters/switches.js';
import { VirtualMachine } from './types/virtual-machine.js';

export default defineCmdlet({
  verb: 'Remove',
  noun: 'VM',
  defaultSet: 'Name',
  changes: true,
  outputs: [VirtualMachine],
  synopsis: 'Removes a virtual machine.',
  description:
    'Removes virtual machines that are off, and their configuration files. Their disk files stay. Each is asked for, unless -Force is given. One whose configuration is lost has no name any more: ' +
    'Get-VM tells its identifier, and -Name takes that.',
  examples: [
    { title: 'One', code: 'Remove-VM web01 -Force', remarks: 'Removes web01 without asking; its disks stay.' },
    { title: 'What would be removed', code: 'Get-VM test* | Remove-VM -WhatIf', remarks: 'Says which virtual machines would be removed.' },
  ],
  parameters: {
    ...remote(within('Name')),
    Name: names('Name'),
    VM: machines('VMObject'),
    Force: force,
    AsJob: asJob,
    Passthru: passthru,
  },
});
