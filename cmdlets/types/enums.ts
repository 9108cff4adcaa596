/** Hyper-V's enums that our objects and parameters use, with its numbers. */
import { defineEnum } from '../define.js';

const hyperV = 'Microsoft.HyperV.PowerShell';
const vhd = 'Microsoft.Vhd.PowerShell';

export const VMState = defineEnum(hyperV, 'VMState', {
  Other: 1,
  Running: 2,
  Off: 3,
  Stopping: 4,
  Saved: 6,
  Paused: 9,
  Starting: 10,
  Reset: 11,
  Saving: 32773,
  Pausing: 32776,
  Resuming: 32777,
  FastSaved: 32779,
  FastSaving: 32780,
  ForceShutdown: 32781,
  ForceReboot: 32782,
  Hibernated: 32783,
  ComponentServicing: 32784,
  RunningCritical: 32785,
  OffCritical: 32786,
  StoppingCritical: 32787,
  SavedCritical: 32788,
  PausedCritical: 32789,
  StartingCritical: 32790,
  ResetCritical: 32791,
  SavingCritical: 32792,
  PausingCritical: 32793,
  ResumingCritical: 32794,
  FastSavedCritical: 32795,
  FastSavingCritical: 32796,
});

export const VMOperationalStatus = defineEnum(hyperV, 'VMOperationalStatus', {
  Ok: 2,
  Degraded: 3,
  PredictiveFailure: 5,
  InService: 11,
  Dormant: 15,
  SupportingEntityInError: 16,
  ApplyingSnapshot: 23769,
  CreatingSnapshot: 32768,
  DeletingSnapshot: 32770,
  WaitingToStart: 32771,
  MergingDisks: 32772,
  ExportingVirtualMachine: 32773,
  MigratingVirtualMachine: 32774,
  BackingUpVirtualMachine: 32776,
  ModifyingUpVirtualMachine: 32777,
  StorageMigrationPhaseOne: 32778,
  StorageMigrationPhaseTwo: 32779,
  MigratingPlannedVm: 32780,
  CheckingCompatibility: 32781,
  ApplicationCriticalState: 32782,
  CommunicationTimedOut: 32783,
  CommunicationFailed: 32784,
  NoIommu: 32785,
  NoIovSupportInNic: 32786,
  SwitchNotInIovMode: 32787,
  IovBlockedByPolicy: 32788,
  IovNoAvailResources: 32789,
  IovGuestDriversNeeded: 32790,
  CriticalIoError: 32795,
});

export const ControllerType = defineEnum(hyperV, 'ControllerType', { IDE: 0, SCSI: 1, PMEM: 2 });
export const CheckpointType = defineEnum(hyperV, 'CheckpointType', { Disabled: 2, Production: 3, ProductionOnly: 4, Standard: 5 });
export const SnapshotType = defineEnum(hyperV, 'SnapshotType', {
  Standard: 0,
  Recovery: 1,
  Planned: 2,
  Missing: 5,
  Replica: 6,
  AppConsistentReplica: 7,
  SyncedReplica: 8,
});
export const StartAction = defineEnum(hyperV, 'StartAction', { Nothing: 2, StartIfRunning: 3, Start: 4 });
export const StopAction = defineEnum(hyperV, 'StopAction', { TurnOff: 2, Save: 3, ShutDown: 4 });
export const CriticalErrorAction = defineEnum(hyperV, 'CriticalErrorAction', { None: 0, Pause: 1 });
export const OnOffState = defineEnum(hyperV, 'OnOffState', { On: 0, Off: 1 });
export const BootDevice = defineEnum(hyperV, 'BootDevice', {
  Floppy: 0,
  CD: 1,
  IDE: 2,
  LegacyNetworkAdapter: 3,
  NetworkAdapter: 4,
  VHD: 5,
});
export const CacheAttributes = defineEnum(hyperV, 'CacheAttributes', {
  Default: 0,
  WriteCacheEnabled: 1,
  WriteCacheAndFUAEnabled: 2,
  WriteCacheDisabled: 3,
});
export const EnhancedSessionTransportType = defineEnum(hyperV, 'EnhancedSessionTransportType', { VMBus: 0, HvSocket: 1 });
/** Newer than the reflected module; the numbers are those of Msvm_VirtualSystemSettingData and are used for nothing. */
export const GuestIsolationType = defineEnum(hyperV, 'GuestIsolationType', { TrustedLaunch: 0, VBS: 1, SNP: 2, TDX: 3, Disabled: 16 });
export const MigrationAuthenticationType = defineEnum(hyperV, 'MigrationAuthenticationType', { CredSSP: 0, Kerberos: 1 });
export const VMMigrationPerformance = defineEnum(hyperV, 'VMMigrationPerformance', { TCPIP: 0, Compression: 1, SMB: 2 });
export const VirtualMachineType = defineEnum(hyperV, 'VirtualMachineType', { RealizedVirtualMachine: 3, PlannedVirtualMachine: 4 });
export const VMReplicationState = defineEnum(hyperV, 'VMReplicationState', {
  Disabled: 0,
  ReadyForInitialReplication: 1,
  InitialReplicationInProgress: 2,
  WaitingForInitialReplication: 3,
  Replicating: 4,
  PreparedForFailover: 5,
  FailedOverWaitingCompletion: 6,
  FailedOver: 7,
  Suspended: 8,
  Error: 9,
  WaitingForStartResynchronize: 10,
  Resynchronizing: 11,
  ResynchronizeSuspended: 12,
  RecoveryInProgress: 13,
  FailbackInProgress: 14,
  FailbackComplete: 15,
  WaitingForUpdateCompletion: 16,
  UpdateError: 17,
  WaitingForRepurposeCompletion: 18,
  PreparedForSyncReplication: 19,
  PreparedForGroupReverseReplication: 20,
  FiredrillInProgress: 21,
});
export const VMReplicationMode = defineEnum(hyperV, 'VMReplicationMode', {
  None: 0,
  Primary: 1,
  Replica: 2,
  TestReplica: 3,
  ExtendedReplica: 4,
});
export const VMReplicationHealthState = defineEnum(hyperV, 'VMReplicationHealthState', {
  NotApplicable: 0,
  Normal: 1,
  Warning: 2,
  Critical: 3,
});
export const VhdFormat = defineEnum(vhd, 'VhdFormat', { Unknown: 0, VHD: 2, VHDX: 3, VHDSet: 4 });
export const VhdType = defineEnum(vhd, 'VhdType', { Unknown: 0, Fixed: 2, Dynamic: 3, Differencing: 4 });
export const VirtualHardDiskPmemAddressAbstractionType = defineEnum(
  'Microsoft.Virtualization.Client.Management',
  'VirtualHardDiskPmemAddressAbstractionType',
  { None: 0, BTT: 1, Unknown: 65535 },
);

export const enums = [
  VMState,
  VMOperationalStatus,
  ControllerType,
  CheckpointType,
  SnapshotType,
  StartAction,
  StopAction,
  CriticalErrorAction,
  OnOffState,
  BootDevice,
  CacheAttributes,
  EnhancedSessionTransportType,
  GuestIsolationType,
  MigrationAuthenticationType,
  VMMigrationPerformance,
  VirtualMachineType,
  VMReplicationState,
  VMReplicationMode,
  VMReplicationHealthState,
  VhdFormat,
  VhdType,
  VirtualHardDiskPmemAddressAbstractionType,
] as const;
