import { alwaysSo, defineCmdlet, parameter, t, within } from './define.js';
import { directBoot } from './parameters/direct-boot.js';
import { machines, names } from './parameters/machine.js';
import { remote } from './parameters/remote.js';
import { allowUnverifiedPaths, passthru } from './parameters/switches.js';
import { CheckpointType, CriticalErrorAction, EnhancedSessionTransportType, OnOffState, StartAction, StopAction } from './types/enums.js';
import { VirtualMachine } from './types/virtual-machine.js';

export default defineCmdlet({
  verb: 'Set',
  noun: 'VM',
  defaultSet: 'Name',
  changes: true,
  outputs: [VirtualMachine],
  synopsis: 'Changes a virtual machine.',
  description: 'Changes the configuration of virtual machines. Memory and processors can be changed while it is off.',
  examples: [
    {
      title: 'More memory and processors',
      code: 'Set-VM -Name web01 -ProcessorCount 4 -MemoryStartupBytes 2GB',
      remarks: 'Gives web01, which is off, four processors and 2 GB of memory.',
    },
    {
      title: 'A new name',
      code: 'Get-VM web01 | Set-VM -NewVMName web02 -Passthru',
      remarks: 'Renames web01 and returns it.',
    },
  ],
  parameters: {
    ...remote(within('Name')),
    VM: machines('VMObject'),
    Name: names('Name'),
    GuestControlledCacheTypes: parameter(t.bool, { help: 'Lets the guest control cache types.', inForce: [false] }),
    LowMemoryMappedIoSpace: parameter(t.uint32, { help: 'Bytes of low memory-mapped space. Not implemented.', notImplemented: true }),
    HighMemoryMappedIoSpace: parameter(t.uint64, { help: 'Bytes of high memory-mapped space. Not implemented.', notImplemented: true }),
    BatteryPassthroughEnabled: parameter(t.bool, { help: 'Shows the battery of the host.', inForce: [false] }),
    ProcessorCount: parameter(t.nullable(t.int64), { help: 'Number of virtual processors.', validate: ['notNull'] }),
    DynamicMemory: parameter(t.switch, { help: 'Uses dynamic memory. Not implemented.', notImplemented: true }),
    StaticMemory: parameter(t.switch, { help: 'Uses static memory.', inForce: [true] }),
    MemoryMinimumBytes: parameter(t.nullable(t.int64), {
      help: 'Least bytes of dynamic memory. Not implemented.',
      validate: ['notNull'],
      notImplemented: true,
    }),
    MemoryMaximumBytes: parameter(t.nullable(t.int64), {
      help: 'Most bytes of dynamic memory. Not implemented.',
      validate: ['notNull'],
      notImplemented: true,
    }),
    MemoryStartupBytes: parameter(t.nullable(t.int64), { help: 'Bytes of memory it starts with.', validate: ['notNull'] }),
    AutomaticStartAction: parameter(t.nullable(t.enum(StartAction)), {
      help: 'What to do after a boot of the host: Nothing, StartIfRunning (if it ran before) or Start.',
      validate: ['notNullOrEmpty'],
    }),
    AutomaticStopAction: parameter(t.nullable(t.enum(StopAction)), {
      help: 'What to do before the host is shut down: TurnOff, or ShutDown, which turns off after a limit. Save is not implemented.',
      validate: ['notNullOrEmpty'],
      notYet: ['Save'],
    }),
    AutomaticStartDelay: parameter(t.nullable(t.int32), {
      help: 'Seconds to wait before the automatic start.',
      validate: ['notNull'],
    }),
    AutomaticCriticalErrorAction: parameter(t.nullable(t.enum(CriticalErrorAction)), {
      help: 'What happens when its storage fails: Pause, it waits.',
      validate: ['notNullOrEmpty'],
      inForce: alwaysSo(VirtualMachine, 'AutomaticCriticalErrorAction'),
    }),
    AutomaticCriticalErrorActionTimeout: parameter(t.nullable(t.int32), {
      help: 'Minutes a guest whose storage fails is given. It is given all the time it takes.',
      validate: ['notNull'],
      inForce: alwaysSo(VirtualMachine, 'AutomaticCriticalErrorActionTimeout'),
    }),
    AutomaticCheckpointsEnabled: parameter(t.nullable(t.bool), {
      help: 'Makes a checkpoint at each start.',
      validate: ['notNull'],
      inForce: alwaysSo(VirtualMachine, 'AutomaticCheckpointsEnabled'),
    }),
    LockOnDisconnect: parameter(t.nullable(t.enum(OnOffState)), {
      help: 'Locks the console on disconnect.',
      validate: ['notNull'],
      inForce: alwaysSo(VirtualMachine, 'LockOnDisconnect'),
    }),
    Notes: parameter(t.string, { help: 'Notes.', validate: ['notNull'] }),
    NewVMName: parameter(t.string, { help: 'New name.', validate: ['notNullOrEmpty'] }),
    SnapshotFileLocation: parameter(t.path, { help: 'Folder for checkpoint files.', validate: ['notNullOrEmpty'] }),
    SmartPagingFilePath: parameter(t.path, { help: 'Folder for paging files.', validate: ['notNullOrEmpty'] }),
    CheckpointType: parameter(t.nullable(t.enum(CheckpointType)), {
      help: 'Kind of checkpoint.',
      inForce: alwaysSo(VirtualMachine, 'CheckpointType'),
    }),
    EnhancedSessionTransportType: parameter(t.nullable(t.enum(EnhancedSessionTransportType)), {
      help: 'Transport of enhanced sessions. Not implemented.',
      notImplemented: true,
    }),
    Passthru: passthru,
    AllowUnverifiedPaths: allowUnverifiedPaths,
    ...directBoot,
  },
});
