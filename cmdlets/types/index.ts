/** Every output type, by the name that travels as `$t`. */
import { HardDiskDrive } from './hard-disk-drive.js';
import { VirtualHardDisk } from './virtual-hard-disk.js';
import { VirtualMachine } from './virtual-machine.js';
import { VMCompatibilityReport } from './vm-compatibility-report.js';
import { VMDriveController } from './vm-drive-controller.js';
import { VMHost } from './vm-host.js';
import { VMSnapshot } from './vm-snapshot.js';
import { VMStorageMove } from './vm-storage-move.js';
import { VMStorageMoveItem, VMStorageMovePlan, VMStorageMoveRefusal, VMStorageMoveRoom } from './vm-storage-move-plan.js';

export { enums } from './enums.js';
export type { HardDiskDriveObject } from './hard-disk-drive.js';
export type { VirtualHardDiskObject } from './virtual-hard-disk.js';
export type { VirtualMachineObject } from './virtual-machine.js';
export type { VMCompatibilityReportObject } from './vm-compatibility-report.js';
export type { VMDriveControllerObject } from './vm-drive-controller.js';
export type { VMHostObject } from './vm-host.js';
export type { VMSnapshotObject } from './vm-snapshot.js';
export type { VMStorageMoveObject } from './vm-storage-move.js';
export type { VMStorageMoveItemObject, VMStorageMovePlanObject } from './vm-storage-move-plan.js';

export const objectTypes = {
  VirtualMachine,
  HardDiskDrive,
  VirtualHardDisk,
  VMHost,
  VMSnapshot,
  VMDriveController,
  VMCompatibilityReport,
  VMStorageMove,
  VMStorageMoveItem,
  VMStorageMoveRoom,
  VMStorageMoveRefusal,
  VMStorageMovePlan,
} as const;
export type ObjectTypeName = keyof typeof objectTypes;
