/** Output objects for tests, complete and typed by the definitions; a test states only what it is about. */
import type {
  HardDiskDriveObject,
  VirtualHardDiskObject,
  VirtualMachineObject,
  VMHostObject,
  VMStorageMoveObject,
  VMStorageMovePlanObject,
} from '../../cmdlets/types/index.js';
import type { WireObject } from '../../src/protocol/messages.js';

export const vmId = '5381f80d-2f0c-4f0e-9c3b-0d8f6f1b2a3c';

export function drive(change: Partial<HardDiskDriveObject> = {}): WireObject & HardDiskDriveObject {
  return {
    $t: 'HardDiskDrive',
    VMName: 'web01',
    VMId: vmId,
    Name: 'Hard Drive on SCSI controller number 0 at location 0',
    Id: `Microsoft:${vmId}\\0`,
    ControllerType: 'SCSI',
    ControllerNumber: 0,
    ControllerLocation: 0,
    Path: '/srv/slow/web01.vhdx',
    ComputerName: 'node1',
    ...change,
  } as WireObject & HardDiskDriveObject;
}

export function vm(change: Partial<VirtualMachineObject> = {}): WireObject & VirtualMachineObject {
  return {
    $t: 'VirtualMachine',
    Name: 'web01',
    Id: vmId,
    ComputerName: 'node1',
    State: 'Running',
    Status: 'Operating normally',
    OperationalStatus: ['Ok'],
    PrimaryOperationalStatus: 'Ok',
    StatusDescriptions: ['Operating normally'],
    PrimaryStatusDescription: 'Operating normally',
    CPUUsage: 3,
    MemoryAssigned: '536870912',
    MemoryDemand: '0',
    MemoryStartup: '536870912',
    MemoryMinimum: '536870912',
    MemoryMaximum: '536870912',
    ProcessorCount: '1',
    Uptime: '00:11:52.2810000',
    Version: '12.0',
    Generation: 2,
    Path: '/srv/slow',
    ConfigurationLocation: '/srv/slow',
    SnapshotFileLocation: '/srv/slow',
    SmartPagingFilePath: '/srv/slow',
    HardDrives: [drive()],
    Notes: '',
    CreationTime: '2026-11-23T12:34:56.1234567Z',
    AutomaticStartAction: 'Nothing',
    AutomaticStopAction: 'ShutDown',
    ...change,
  } as WireObject & VirtualMachineObject;
}

export function vhd(change: Partial<VirtualHardDiskObject> = {}): WireObject & VirtualHardDiskObject {
  return {
    $t: 'VirtualHardDisk',
    ComputerName: 'node1',
    Path: '/srv/slow/web01.vhdx',
    VhdFormat: 'VHDX',
    VhdType: 'Dynamic',
    FileSize: '4194304',
    Size: '42949672960',
    LogicalSectorSize: 512,
    PhysicalSectorSize: 4096,
    BlockSize: 33554432,
    DiskIdentifier: 'A0D0E7C4-1C7B-4F3E-8A38-0B7A7C2B8E11',
    Attached: false,
    ...change,
  } as WireObject & VirtualHardDiskObject;
}

export function host(change: Partial<VMHostObject> = {}): WireObject & VMHostObject {
  return {
    $t: 'VMHost',
    Name: 'node1',
    ComputerName: 'node1',
    FullyQualifiedDomainName: '',
    LogicalProcessorCount: 2,
    MemoryCapacity: '25769803776',
    VirtualHardDiskPath: '/srv/disks',
    VirtualMachinePath: '/srv/vms',
    MaximumStorageMigrations: 2,
    SupportedVmVersions: ['12.0'],
    ...change,
  } as WireObject & VMHostObject;
}

export function move(change: Partial<VMStorageMoveObject> = {}): WireObject & VMStorageMoveObject {
  return {
    $t: 'VMStorageMove',
    MoveId: '0b6f8d1e-6f3d-4f6e-9a51-6c6a3a0f5b10',
    VMName: 'web01',
    VMId: vmId,
    Phase: 'copy',
    PercentComplete: 37,
    BytesTotal: '42949672960',
    BytesCopied: '1048576000',
    BytesRecopied: '0',
    BytesMirrored: '0',
    BytesVerified: '0',
    BytesPerSecond: '104857600',
    SecondsRemaining: 400,
    GuestP99Us: '350',
    BlackoutUs: null,
    LongestTurnOperations: null,
    LongestTurnUs: null,
    StartTime: null,
    EndTime: null,
    Duration: null,
    GuestMaxUs: null,
    GuestRestMaxUs: null,
    Outcome: 'Running',
    Message: null,
    ErrorCode: null,
    FailedDisk: null,
    FailedPath: null,
    Receipt: '[]',
    Source: ['/srv/slow/web01.vhdx'],
    Destination: ['/mnt/fast/Virtual Hard Disks/web01.vhdx'],
    ...change,
  } as WireObject & VMStorageMoveObject;
}

export function plan(change: Partial<VMStorageMovePlanObject> = {}): WireObject & VMStorageMovePlanObject {
  return {
    $t: 'VMStorageMovePlan',
    VMName: 'web01',
    VMId: vmId,
    Items: [
      {
        $t: 'VMStorageMoveItem',
        Kind: 'VirtualHardDisk',
        Source: '/srv/slow/web01.vhdx',
        Destination: '/mnt/fast/Virtual Hard Disks/web01.vhdx',
        BytesToCopy: '12884901888',
        BytesAtMost: '42949672960',
        SourceIsKept: false,
      },
    ],
    BytesToCopy: '12884901888',
    Room: [
      {
        $t: 'VMStorageMoveRoom',
        Path: '/mnt/fast',
        BytesNeeded: '13529146982',
        BytesAtMost: '42949672960',
        BytesFree: '5368709120',
        BytesPromised: '0',
      },
    ],
    Warnings: ['The disks may grow.'],
    Refusals: [
      {
        $t: 'VMStorageMoveRefusal',
        ErrorCode: 'NoSpace',
        Message: "There is not enough space at '/mnt/fast'.",
        Path: '/mnt/fast',
        RecommendedAction: null,
      },
    ],
    ForecastSeconds: '60',
    ForecastBasis: '12.0 GB of the virtual machine "db01" took 60 s between the same file systems on 2026-11-30T10:00:00.000Z.',
    ComputerName: 'node1',
    ...change,
  };
}
