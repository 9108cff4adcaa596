import { defineCmdlet, placed } from './define.js';
import { cimSession, computerName, credential } from './parameters/remote.js';
import { VMHost } from './types/vm-host.js';

export default defineCmdlet({
  verb: 'Get',
  noun: 'VMHost',
  defaultSet: 'ComputerName',
  outputs: [VMHost],
  synopsis: 'Gets the host and its settings.',
  description: 'Gets the host: default folders, limits, processors and memory.',
  examples: [
    { title: 'The host', code: 'Get-VMHost', remarks: 'Returns the settings of the host.' },
    {
      title: 'One setting',
      code: '(Get-VMHost).MaximumStorageMigrations',
      remarks: 'Returns how many storage moves may run at the same time.',
    },
  ],
  parameters: {
    CimSession: cimSession(placed({ mandatory: true, position: 0, byName: true }, 'CimSession')),
    ComputerName: computerName(placed({ position: 0, byValue: true }, 'ComputerName')),
    Credential: credential(placed({ position: 1, byValue: true }, 'ComputerName')),
  },
});
