import { defineCmdlet, parameter, t, within } from './define.js';
import { machines, names } from './parameters/machine.js';
import { remote } from './parameters/remote.js';
import { asJob, force, passthru } from './parameters/switches.js';
import { VirtualMachine } from './types/virtual-machine.js';

export default defineCmdlet({
  verb: 'Stop',
  noun: 'VM',
  defaultSet: 'Name',
  changes: true,
  outputs: [VirtualMachine],
  synopsis: 'Stops a virtual machine.',
  description:
    'Asks the guest to shut down (power button) and waits. With -Force a guest that does not obey is turned off; with -TurnOff the plug is pulled at once. ' +
    'A storage move of the virtual machine goes on.',
  examples: [
    { title: 'Shut down', code: 'Stop-VM web01', remarks: 'Asks the guest of web01 to shut down.' },
    {
      title: 'Pull the plug',
      code: 'Stop-VM -Name web01 -TurnOff',
      remarks: 'Turns web01 off at once; the guest loses what it had not written.',
    },
  ],
  parameters: {
    ...remote(within('Name')),
    VM: machines('VMObject'),
    Name: names('Name'),
    Save: parameter(t.switch, { help: 'Saves its state. Not implemented.', notImplemented: true }),
    TurnOff: parameter(t.switch, { help: 'Turns it off at once.' }),
    Force: force,
    AsJob: asJob,
    Passthru: passthru,
  },
});
