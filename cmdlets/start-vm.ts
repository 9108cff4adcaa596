import { defineCmdlet, within } from './define.js';
import { machines, names } from './parameters/machine.js';
import { remote } from './parameters/remote.js';
import { asJob, passthru } from './parameters/switches.js';
import { VirtualMachine } from './types/virtual-machine.js';

export default defineCmdlet({
  verb: 'Start',
  noun: 'VM',
  defaultSet: 'Name',
  changes: true,
  outputs: [VirtualMachine],
  synopsis: 'Starts a virtual machine.',
  description: 'Starts virtual machines that are off. One that runs already is left alone, with a warning.',
  examples: [
    { title: 'One', code: 'Start-VM web01', remarks: 'Starts web01 and waits until it runs.' },
    {
      title: 'Several',
      code: 'Get-VM web* | Start-VM -Passthru',
      remarks: 'Starts every virtual machine whose name begins with web, and returns them.',
    },
  ],
  parameters: { ...remote(within('Name')), VM: machines('VMObject'), Name: names('Name'), AsJob: asJob, Passthru: passthru },
});
