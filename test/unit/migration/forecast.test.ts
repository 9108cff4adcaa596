/** A forecast is told only where a move between the same file systems was measured. */
import { expect, test } from 'vitest';
import type { DiskReceipt } from '../../../src/model/move.js';
import { forecast } from '../../../src/migration/forecast.js';
import { freshStatus } from '../../../src/migration/progress.js';
import type { MoveReceipt } from '../../../src/migration/receipts.js';

const GIB = 2 ** 30;

function done(from: string, to: string, bytes: number, seconds: number, vmName = 'db01'): MoveReceipt {
  const disk = { source: { path: '/a', device: from, inode: '1' }, target: { path: '/b', device: to, inode: '2' } } as DiskReceipt;
  return {
    schema: 1,
    moveId: 'm',
    vmId: 'v',
    vmName,
    startedAt: '2026-11-30T10:00:00.000Z',
    finishedAt: new Date(Date.parse('2026-11-30T10:00:00.000Z') + seconds * 1000).toISOString(),
    configurationSource: '',
    configurationTarget: '',
    moved: [],
    kept: [],
    status: { ...freshStatus('m', 'done'), bytesData: String(bytes), receipt: [disk] },
  };
}

const asked = (disks: readonly (readonly [from: string, to: string, bytes: number])[]) => ({
  sources: disks.map(([device], at) => ({ path: `/${at}`, real: `/${at}`, device, identity: {} as never })),
  targets: disks.map(([, device], at) => ({ path: `/t${at}`, device })),
  needs: disks.map(([, device, bytes]) => ({
    ...{ target: '', device, folder: '', bytes: 0n, most: 0n, returned: 0n },
    data: BigInt(bytes),
  })),
});

test('in proportion to the last move between the same two file systems, which is named', () => {
  const before = [done('1', '2', GIB, 10), done('1', '2', GIB, 20, 'web02'), done('1', '3', GIB, 1)];
  expect(forecast(asked([['1', '2', 3 * GIB]]), before)).toEqual({
    seconds: 60,
    basis: '1.0 GB of the virtual machine "web02" took 20 s between the same file systems on 2026-11-30T10:00:20.000Z.',
  });
});

test('none without such a move: the other direction, a small one, or disks that take different ways', () => {
  expect(forecast(asked([['1', '2', GIB]]), [])).toBeNull();
  expect(forecast(asked([['2', '1', GIB]]), [done('1', '2', GIB, 10)])).toBeNull();
  expect(forecast(asked([['1', '2', GIB]]), [done('1', '2', 1000, 1)])).toBeNull();
  expect(
    forecast(
      asked([
        ['1', '2', GIB],
        ['1', '3', GIB],
      ]),
      [done('1', '2', GIB, 10)],
    ),
  ).toBeNull();
  expect(forecast(asked([]), [done('1', '2', GIB, 10)])).toBeNull();
});
