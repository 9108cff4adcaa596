/** A storage move that waits, runs or has ended: what our own Get-VMStorageMove returns. Nothing where a figure is not known yet. */
import { defineObject, fixed, property, t, type WireOf } from '../define.js';

export const VMStorageMove = defineObject({
  name: 'VMStorageMove',
  namespace: 'VMStorage.PowerShell',
  help: 'A move of the storage of a virtual machine.',
  properties: {
    MoveId: property(t.guid, 'Identifier of the move.'),
    VMName: property(t.string, 'Name of the virtual machine.'),
    VMId: property(t.guid, 'Identifier of the virtual machine.'),
    Phase: property(
      t.string,
      'Phase it is in, or that it ended in: queued, plan, check, prepare, copy, mirror, verify, synchronized, switch, release, cleanUp; done when it is completed.',
    ),
    PercentComplete: property(t.int32, 'Progress of the whole move, 0 to 100.'),
    BytesTotal: property(t.uint64, 'Bytes to move.'),
    BytesCopied: property(t.uint64, 'Bytes copied once.'),
    BytesRecopied: property(t.uint64, 'Bytes copied again because the guest wrote them meanwhile.'),
    BytesMirrored: property(t.uint64, 'Bytes the guest wrote to both sides.'),
    BytesVerified: property(t.uint64, 'Bytes read back and compared.'),
    BytesData: fixed(t.nullable(t.uint64), null, 'Bytes of data among those to move; nothing until the disks were looked through.'),
    BytesCompared: fixed(t.nullable(t.uint64), null, 'Bytes of that data read back and compared.'),
    BytesBound: fixed(t.nullable(t.uint64), null, 'Most bytes it may still have to copy; nothing before writes are mirrored.'),
    BytesPerSecond: property(t.uint64, 'Present speed.'),
    SecondsRemaining: property(t.nullable(t.int32), 'Estimate of the time left.'),
    StartTime: property(t.nullable(t.datetime), 'When it began; nothing while it waits for its place.'),
    EndTime: property(t.nullable(t.datetime), 'When it ended, however it did.'),
    Duration: property(t.nullable(t.timespan), 'Time from its beginning to its end, or until now.'),
    GuestP99Us: property(t.nullable(t.int64), '99th percentile of the latency the guest sees, in microseconds.'),
    GuestMaxUs: property(
      t.nullable(t.int64),
      'Longest time the guest has waited for one request since the move began, in microseconds; a wait that goes on counts.',
    ),
    GuestRestMaxUs: property(t.nullable(t.int64), 'The same before the move, at rest, to compare with.'),
    BlackoutUs: property(t.nullable(t.int64), 'Longest time a request was held for the sake of the switch, in microseconds.'),
    LongestTurnOperations: property(
      t.nullable(t.int32),
      "Most operations the worker did in one turn, in which no disk's request is taken.",
    ),
    LongestTurnUs: property(t.nullable(t.int64), 'Most processor time such a turn took, in microseconds; 0 below a millisecond.'),
    Outcome: property(t.string, 'Queued, Running or Stopping while it goes on; then Completed, Failed or Stopped.'),
    Message: property(t.nullable(t.string), 'What there is to say of the outcome.'),
    ErrorCode: property(t.nullable(t.string), 'Why it failed, in a word: NoSpace, StorageFailure ...'),
    FailedDisk: property(t.nullable(t.int32), 'Number of the disk that the failure is about.'),
    FailedPath: property(t.nullable(t.string), 'File or folder that the failure is about.'),
    Receipt: property(t.nullable(t.string), 'Per disk: bytes, hash, identities of both files, generation and times, as JSON text.'),
    Source: property(t.array(t.string), 'Files moved.'),
    Destination: property(t.array(t.string), 'Files they become, in the same order.'),
    ComputerName: fixed(t.string, '', 'Host it is on.'),
  },
  keys: ['MoveId', 'VMId', 'VMName'],
  text: '{VMName} {Phase} {PercentComplete} % {Outcome}',
  view: {
    // Within 80 columns: a table that is wider loses its last column, which says how the move ended.
    table: [
      { property: 'VMName', width: 12 },
      { property: 'Phase', width: 12 },
      { property: 'PercentComplete', label: 'Percent', width: 7 },
      { property: 'BytesCopied', label: 'Copied(M)', width: 9, unit: 'MiB' },
      { property: 'BytesPerSecond', label: 'M/s', width: 6, unit: 'MiB' },
      { property: 'SecondsRemaining', label: 'Left(s)', width: 7 },
      { property: 'GuestP99Us', label: 'P99(us)', width: 7 },
      { property: 'Outcome', width: 9 },
    ],
  },
});

export type VMStorageMoveObject = WireOf<typeof VMStorageMove>;
