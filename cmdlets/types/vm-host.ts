/** The host and its settings: what Get-VMHost returns. */
import { defineObject, fixed, property, t, type WireOf } from '../define.js';
import { MigrationAuthenticationType, VMMigrationPerformance } from './enums.js';

export const VMHost = defineObject({
  name: 'VMHost',
  namespace: 'Microsoft.HyperV.PowerShell',
  help: 'The virtualization host.',
  properties: {
    Name: property(t.string, 'Name of the host.'),
    ComputerName: property(t.string, 'The same name.'),
    FullyQualifiedDomainName: property(t.string, 'Domain part of the name.'),
    LogicalProcessorCount: property(t.int32, 'Number of logical processors.'),
    MemoryCapacity: property(t.int64, 'Bytes of memory.'),
    VirtualHardDiskPath: property(t.string, 'Default folder for disk files.'),
    VirtualMachinePath: property(t.string, 'Default folder for configurations.'),
    MaximumStorageMigrations: property(t.uint32, 'Most storage moves at the same time; further ones wait.'),
    MaximumVirtualMachineMigrations: fixed(t.uint32, 0, 'Most live migrations at the same time.'),
    VirtualMachineMigrationEnabled: fixed(t.bool, false, 'Whether virtual machines can move between hosts.'),
    VirtualMachineMigrationAuthenticationType: fixed(t.enum(MigrationAuthenticationType), 'CredSSP', 'How hosts would prove who they are.'),
    VirtualMachineMigrationPerformanceOption: fixed(t.enum(VMMigrationPerformance), 'TCPIP', 'How memory would travel.'),
    UseAnyNetworkForMigration: fixed(t.bool, false, 'Whether any network may be used.'),
    NumaSpanningEnabled: fixed(t.bool, true, 'Whether a virtual machine may span NUMA nodes.'),
    EnableEnhancedSessionMode: fixed(t.bool, false, 'Whether enhanced sessions are allowed.'),
    IovSupport: fixed(t.bool, false, 'Whether SR-IOV can be used.'),
    IovSupportReasons: fixed(t.array(t.string), [], 'Why it cannot.'),
    ResourceMeteringSaveInterval: fixed(t.timespan, '01:00:00', 'How often metering is saved.'),
    SupportedVmVersions: property(t.array(t.string), 'Configuration versions that can run.'),
    FibreChannelWwnn: fixed(t.nullable(t.string), null, 'World wide node name.'),
    FibreChannelWwpnMinimum: fixed(t.nullable(t.string), null, 'Least world wide port name.'),
    FibreChannelWwpnMaximum: fixed(t.nullable(t.string), null, 'Greatest world wide port name.'),
    MacAddressMinimum: fixed(t.nullable(t.string), null, 'Least MAC address.'),
    MacAddressMaximum: fixed(t.nullable(t.string), null, 'Greatest MAC address.'),
    IsDeleted: fixed(t.bool, false, 'Always false.'),
  },
  keys: ['Name', 'ComputerName'],
  text: '{Name}',
  view: {
    list: [
      'Name',
      'LogicalProcessorCount',
      'MemoryCapacity',
      'VirtualHardDiskPath',
      'VirtualMachinePath',
      'MaximumStorageMigrations',
      'SupportedVmVersions',
    ],
  },
});

export type VMHostObject = WireOf<typeof VMHost>;
