import { alwaysSo, defineCmdlet, parameter, placed, t } from './define.js';
import { cimSession, computerName, credential } from './parameters/remote.js';
import { passthru } from './parameters/switches.js';
import { MigrationAuthenticationType, VMMigrationPerformance } from './types/enums.js';
import { VMHost } from './types/vm-host.js';

const refusedText = (help: string) =>
  parameter(t.string, { help: `${help} Not implemented.`, validate: ['notNullOrEmpty'], notImplemented: true });

export default defineCmdlet({
  verb: 'Set',
  noun: 'VMHost',
  defaultSet: 'ComputerName',
  changes: true,
  outputs: [VMHost],
  synopsis: 'Changes the settings of the host.',
  description: 'Changes default folders and limits of the host. A raised -MaximumStorageMigrations lets waiting moves start.',
  examples: [
    {
      title: 'More moves at once',
      code: 'Set-VMHost -MaximumStorageMigrations 4',
      remarks: 'Lets four storage moves run at the same time.',
    },
    {
      title: 'Default folders',
      code: 'Set-VMHost -VirtualHardDiskPath /srv/disks -VirtualMachinePath /srv/vms -Passthru',
      remarks: 'Sets both default folders and returns the host.',
    },
  ],
  parameters: {
    CimSession: cimSession(placed({ mandatory: true, position: 0, byName: true }, 'CimSession')),
    ComputerName: computerName(placed({ position: 0 }, 'ComputerName')),
    Credential: credential(placed({ position: 1 }, 'ComputerName')),
    MaximumStorageMigrations: parameter(t.uint32, { help: 'Most storage moves at the same time; further ones wait.' }),
    MaximumVirtualMachineMigrations: parameter(t.uint32, {
      help: 'Most live migrations at the same time.',
      inForce: alwaysSo(VMHost, 'MaximumVirtualMachineMigrations'),
    }),
    VirtualMachineMigrationAuthenticationType: parameter(t.enum(MigrationAuthenticationType), {
      help: 'How hosts prove who they are.',
      inForce: alwaysSo(VMHost, 'VirtualMachineMigrationAuthenticationType'),
    }),
    UseAnyNetworkForMigration: parameter(t.bool, { help: 'Uses any network.', inForce: alwaysSo(VMHost, 'UseAnyNetworkForMigration') }),
    VirtualMachineMigrationPerformanceOption: parameter(t.enum(VMMigrationPerformance), {
      help: 'How memory travels.',
      inForce: alwaysSo(VMHost, 'VirtualMachineMigrationPerformanceOption'),
    }),
    ResourceMeteringSaveInterval: parameter(t.nullable(t.timespan), {
      help: 'How often metering is saved.',
      validate: ['notNull'],
      inForce: alwaysSo(VMHost, 'ResourceMeteringSaveInterval'),
    }),
    VirtualHardDiskPath: parameter(t.path, { help: 'Default folder for disk files.', validate: ['notNullOrEmpty'] }),
    VirtualMachinePath: parameter(t.path, { help: 'Default folder for configurations.', validate: ['notNullOrEmpty'] }),
    MacAddressMaximum: refusedText('Greatest MAC address.'),
    MacAddressMinimum: refusedText('Least MAC address.'),
    FibreChannelWwnn: refusedText('World wide node name.'),
    FibreChannelWwpnMaximum: refusedText('Greatest world wide port name.'),
    FibreChannelWwpnMinimum: refusedText('Least world wide port name.'),
    NumaSpanningEnabled: parameter(t.nullable(t.bool), {
      help: 'Lets virtual machines span NUMA nodes.',
      inForce: alwaysSo(VMHost, 'NumaSpanningEnabled'),
    }),
    EnableEnhancedSessionMode: parameter(t.nullable(t.bool), {
      help: 'Allows enhanced sessions.',
      inForce: alwaysSo(VMHost, 'EnableEnhancedSessionMode'),
    }),
    Passthru: passthru,
  },
});
