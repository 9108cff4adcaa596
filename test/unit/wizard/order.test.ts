/** What the host is asked and the line that a person may run instead say the same. */
import { expect, test } from 'vitest';
import { cmdlets, type Cmdlet } from '../../../cmdlets/index.js';
import { placementIn } from '../../../cmdlets/define.js';
import { boundOf, lineOf, type MoveOrder, type OrderDestination } from '../../../src/wizard/contract/order.js';

const order = (destination: OrderDestination, change: Partial<MoveOrder> = {}): MoveOrder => ({
  ...{ vmId: '5381f80d-2f0c-4f0e-9c3b-0d8f6f1b2a3c', vmName: 'web01', nameIsUnique: true, retainSources: false, requireFullSize: false },
  destination,
  ...change,
});
const single: OrderDestination = { kind: 'single', folder: '/mnt/fast' };
const multiple: OrderDestination = {
  ...{ kind: 'multiple', virtualMachinePath: '/a', snapshotFilePath: null, smartPagingFilePath: '/c' },
  disks: [
    { source: "/it's/a.vhdx", target: '/d/a.vhdx' },
    { source: '/b', target: '/d/b' },
  ],
};

test('everything to one folder', () => {
  expect(lineOf(order(single))).toBe("Move-VMStorage -VMName 'web01' -DestinationStoragePath '/mnt/fast'");
  expect(boundOf(order(single)).bound).toEqual({
    VM: { $t: 'VirtualMachine', Id: '5381f80d-2f0c-4f0e-9c3b-0d8f6f1b2a3c' },
    DestinationStoragePath: '/mnt/fast',
  });
});

test('items to folders of their own, with the switches', () => {
  expect(lineOf(order(multiple, { retainSources: true, requireFullSize: true }))).toBe(
    "Move-VMStorage -VMName 'web01' -VirtualMachinePath '/a' -SmartPagingFilePath '/c' -Vhds @{ SourceFilePath = '/it''s/a.vhdx'; DestinationFilePath = '/d/a.vhdx' }, " +
      "@{ SourceFilePath = '/b'; DestinationFilePath = '/d/b' } -RetainVhdCopiesOnSource -RequireFullSize",
  );
});

test('a name that several machines have is none: the line finds the machine by its id', () => {
  expect(lineOf(order(single, { nameIsUnique: false }))).toBe(
    "Get-VM -Id '5381f80d-2f0c-4f0e-9c3b-0d8f6f1b2a3c' | Move-VMStorage -DestinationStoragePath '/mnt/fast'",
  );
});

test('no quote ends a text too early, and nothing in it is run: PowerShell takes five characters for quotes', () => {
  const name = "a'b\u2018c\u2019d\u201ae\u201bf$(rm)`;";
  expect(lineOf(order(single, { vmName: name }))).toContain("'a''b\u2018\u2018c\u2019\u2019d\u201a\u201ae\u201b\u201bf$(rm)`;'");
});

test('every parameter is one of the cmdlet, in the set that is named', () => {
  const cmdlet = cmdlets['Move-VMStorage'] as unknown as Cmdlet;
  for (const each of [single, multiple]) {
    const { parameterSet, bound } = boundOf(order(each, { retainSources: true, requireFullSize: true }));
    expect(cmdlet.sets).toContain(parameterSet);
    for (const name of Object.keys(bound)) expect(placementIn(cmdlet.parameters[name]!, parameterSet), name).toBeDefined();
  }
});
