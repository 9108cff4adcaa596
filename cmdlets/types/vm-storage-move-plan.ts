/** What a move would do and what stands against it, before anything is written: what Move-VMStorage -PassPlan returns. */
import { defineObject, fixed, property, t, type WireOf } from '../define.js';

export const VMStorageMoveItem = defineObject({
  name: 'VMStorageMoveItem',
  namespace: 'VMStorage.PowerShell',
  help: 'One thing that a move takes to another place.',
  properties: {
    Kind: property(t.string, 'VirtualHardDisk, Configuration, Checkpoints or SmartPaging.'),
    Source: property(t.string, 'Where it is: a file, or for checkpoints and paging the folder.'),
    Destination: property(t.string, 'Where it will be.'),
    BytesToCopy: property(t.nullable(t.uint64), 'Bytes of data to copy; nothing where it is not known, and for what is no disk.'),
    BytesAtMost: property(t.nullable(t.uint64), 'What the disk may come to occupy at its destination once every block is written.'),
    SourceIsKept: property(t.bool, 'Whether the old disk file stays.'),
  },
  keys: ['Source', 'Destination'],
  text: '{Source} -> {Destination}',
  view: {
    table: [
      { property: 'Kind', width: 16 },
      { property: 'BytesToCopy', label: 'Copy(M)', width: 9, unit: 'MiB' },
      { property: 'Source', width: 40 },
      { property: 'Destination', width: 40 },
    ],
  },
});

export const VMStorageMoveRoom = defineObject({
  name: 'VMStorageMoveRoom',
  namespace: 'VMStorage.PowerShell',
  help: 'Room on one file system that a move takes disks to.',
  properties: {
    Path: property(t.string, 'A folder on it.'),
    BytesNeeded: property(t.uint64, 'What has to be free now.'),
    BytesAtMost: property(t.uint64, 'What the disks may come to occupy.'),
    BytesFree: property(t.uint64, 'What is free.'),
    BytesPromised: property(t.uint64, 'What of that other moves will still take.'),
  },
  keys: ['Path'],
  text: '{Path}',
  view: {
    table: [
      { property: 'BytesNeeded', label: 'Needed(M)', width: 10, unit: 'MiB' },
      { property: 'BytesAtMost', label: 'AtMost(M)', width: 10, unit: 'MiB' },
      { property: 'BytesFree', label: 'Free(M)', width: 10, unit: 'MiB' },
      { property: 'Path', width: 40 },
    ],
  },
});

export const VMStorageMoveRefusal = defineObject({
  name: 'VMStorageMoveRefusal',
  namespace: 'VMStorage.PowerShell',
  help: 'A reason why a move is refused.',
  properties: {
    ErrorCode: property(t.string, 'The reason in a word: NoSpace, AlreadyExists, ObjectInUse ...'),
    Message: property(t.string, 'The reason.'),
    Path: property(t.nullable(t.string), 'File, folder or virtual machine it is about.'),
    RecommendedAction: property(t.nullable(t.string), 'What to do.'),
  },
  keys: ['ErrorCode', 'Message'],
  text: '{Message}',
  view: { list: ['ErrorCode', 'Message', 'Path', 'RecommendedAction'] },
});

export const VMStorageMovePlan = defineObject({
  name: 'VMStorageMovePlan',
  namespace: 'VMStorage.PowerShell',
  help: 'What a move of the storage of a virtual machine would do.',
  properties: {
    VMName: property(t.string, 'Name of the virtual machine.'),
    VMId: property(t.guid, 'Identifier of the virtual machine.'),
    Items: property(t.array(t.object(VMStorageMoveItem)), 'What moves; nothing when all is where it was asked to be.'),
    BytesToCopy: property(t.nullable(t.uint64), 'Bytes of data to copy, all disks together; nothing where it is not known.'),
    Room: property(t.array(t.object(VMStorageMoveRoom)), 'Room at the destination, one for each file system.'),
    Warnings: property(t.array(t.string), 'What should be known before it is begun.'),
    Refusals: property(t.array(t.object(VMStorageMoveRefusal)), 'Why it is refused; empty when it would be begun.'),
    ForecastSeconds: property(
      t.nullable(t.int64),
      'How long it will take, from the last move between the same two file systems since the host was started; nothing without one.',
    ),
    ForecastBasis: property(t.nullable(t.string), 'Which move that was.'),
    ComputerName: fixed(t.string, '', 'Host it is on.'),
  },
  keys: ['VMId', 'VMName'],
  text: '{VMName}',
  view: { list: ['VMName', 'Items', 'BytesToCopy', 'Room', 'Warnings', 'Refusals', 'ForecastSeconds', 'ForecastBasis'] },
});

export type VMStorageMovePlanObject = WireOf<typeof VMStorageMovePlan>;
export type VMStorageMoveItemObject = WireOf<typeof VMStorageMoveItem>;
