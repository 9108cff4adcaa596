/** What a move does to paths (runbooks.md section 7), as claims about the pure plan. */
import * as path from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RETAINED, afterMove, planMove, type PlanInput } from '../../../src/migration/plan.js';
import { nativePath, readRequest, type MoveRequest } from '../../../src/migration/request.js';
import type { WireValue } from '../../../src/migration/ports.js';
import type { VmConfiguration } from '../../../src/model/vm.js';
import { hardDisk, toFolder, vmConfiguration, vmId } from './world.js';

function input(request: MoveRequest, configuration = web01()): PlanInput {
  return {
    vm: { configuration, configurationFile: `${configuration.path}/Virtual Machines/${vmId}.vmcx`, owner: null },
    request,
    moveId: 'm1',
    createdAt: new Date(0),
    bootId: 'b1',
    configurationFileUnder: (folder, id) => path.join(folder, 'Virtual Machines', `${id}.vmcx`),
  };
}

function web01(): VmConfiguration {
  return vmConfiguration('/srv/slow', [hardDisk(0, '/srv/slow/web01.vhdx'), hardDisk(1, '/srv/data/data.img')]);
}

function read(parameterSet: string, bound: { [name: string]: WireValue }): MoveRequest {
  return readRequest({ parameterSet, bound: { Name: 'web01', ...bound }, cwd: '/home/anna', hostNames: ['.', 'localhost', 'host1'] });
}

const multiple = (bound: { [name: string]: WireValue }) => read('NameMultipleDestinations', bound);
const names = fc.stringMatching(/^[A-Za-z0-9 ._-]{1,20}$/).filter((name) => !/^\.+$/.test(name));
const folders = fc.array(names, { minLength: 1, maxLength: 4 }).map((parts) => `/${parts.join('/')}`);

describe('-DestinationStoragePath', () => {
  test('gives all three locations exactly that string, and the known sub-folders', () => {
    const { plan } = planMove(input(toFolder('/mnt/fast')));
    expect(plan).toMatchObject({
      after: { path: '/mnt/fast', snapshotFileLocation: '/mnt/fast', smartPagingFilePath: '/mnt/fast' },
      configurationSource: `/srv/slow/Virtual Machines/${vmId}.vmcx`,
      configurationTarget: `/mnt/fast/Virtual Machines/${vmId}.vmcx`,
      disks: [
        { disk: 0, source: '/srv/slow/web01.vhdx', target: '/mnt/fast/Virtual Hard Disks/web01.vhdx', format: 'vhdx' },
        { disk: 1, source: '/srv/data/data.img', target: '/mnt/fast/Virtual Hard Disks/data.img', format: 'raw' },
      ],
    });
    expect(plan!.after.disks.map((disk) => disk.path)).toEqual(plan!.disks.map((disk) => disk.target));
  });

  test('for any folder: every disk lands in it under its own leaf, nothing but paths and the count of moves changes, and planning again finds nothing to do', () => {
    fc.assert(
      fc.property(folders, fc.uniqueArray(names, { minLength: 0, maxLength: 6, selector: (name) => name }), (folder, leaves) => {
        const before = vmConfiguration(
          '/srv/slow',
          leaves.map((leaf, index) => hardDisk(index, `/srv/slow/${leaf}.img`)),
        );
        fc.pre(folder !== before.path);
        const { plan } = planMove(input(toFolder(folder), before));
        for (const disk of plan!.disks) {
          expect(path.dirname(disk.target)).toBe(`${folder}/Virtual Hard Disks`);
          expect(path.basename(disk.target)).toBe(path.basename(disk.source));
        }
        const paths = { path: '', snapshotFileLocation: '', smartPagingFilePath: '', disks: [] };
        expect({ ...plan!.after, ...paths }).toEqual({ ...before, ...paths, storageGeneration: 1 });
        expect(plan!.after.disks.map((disk) => ({ ...disk, path: '' }))).toEqual(before.disks.map((disk) => ({ ...disk, path: '' })));
        expect(afterMove(before, plan!)).toEqual(plan!.after);
        expect(planMove(input(toFolder(folder), plan!.after)).plan).toBeNull();
      }),
    );
  });

  test('a trailing slash, `.` and `..` do not show in the paths', () => {
    expect(read('NameSingleDestination', { DestinationStoragePath: '/mnt/./fast/x/../' }).destination).toEqual({
      kind: 'single',
      folder: '/mnt/fast',
    });
  });

  test('moving to where everything is already is success without a plan, and says so', () => {
    const there = planMove(input(toFolder('/mnt/fast'))).plan!.after;
    const { plan, nothing } = planMove(input(toFolder('/mnt/fast'), there));
    expect(plan).toBeNull();
    expect(nothing).toContain('already where it was asked to be');
  });

  test('a disk that is there already is left alone while the rest moves', () => {
    const before = vmConfiguration('/srv/slow', [
      hardDisk(0, '/mnt/fast/Virtual Hard Disks/web01.vhdx'),
      hardDisk(1, '/srv/data/data.img'),
    ]);
    expect(planMove(input(toFolder('/mnt/fast'), before)).plan!.disks.map((disk) => disk.disk)).toEqual([1]);
  });

  test('two disks with the same leaf cannot go to one folder', () => {
    const before = vmConfiguration('/srv/slow', [hardDisk(0, '/srv/a/disk.img'), hardDisk(1, '/srv/b/disk.img')]);
    expect(() => planMove(input(toFolder('/mnt/fast'), before))).toThrow(expect.objectContaining({ code: 'InvalidParameter' }));
  });

  test('a pass-through disk refuses the move', () => {
    const before = vmConfiguration('/srv/slow', [{ ...hardDisk(0, '/dev/sdb'), passThrough: true }]);
    expect(() => planMove(input(toFolder('/mnt/fast'), before))).toThrow(
      expect.objectContaining({ code: 'InvalidState', target: '/dev/sdb' }),
    );
  });

  test.each(['.avhdx', '.vhd', '.avhd', '.vhds', '.qcow2'])('a disk of the kind %s is refused as not implemented', (extension) => {
    const before = vmConfiguration('/srv/slow', [hardDisk(0, `/srv/slow/web01${extension}`)]);
    expect(() => planMove(input(toFolder('/mnt/fast'), before))).toThrow(expect.objectContaining({ code: 'NotImplemented' }));
  });
});

describe('component moves are independent', () => {
  const all = ['path', 'snapshotFileLocation', 'smartPagingFilePath'] as const;
  test.each([
    ['VirtualMachinePath', 'path'],
    ['SnapshotFilePath', 'snapshotFileLocation'],
    ['SmartPagingFilePath', 'smartPagingFilePath'],
  ] as const)('-%s changes %s and nothing else', (parameter, property) => {
    const plan = planMove(input(multiple({ [parameter]: '/mnt/fast' }))).plan!;
    const before = web01();
    for (const each of all) expect(plan.after[each]).toBe(each === property ? '/mnt/fast' : before[each]);
    expect(plan.disks).toEqual([]);
    expect(plan.after.disks).toEqual(before.disks);
    expect(plan.configurationTarget === plan.configurationSource).toBe(property !== 'path');
  });

  test('-Vhds moves the named disk and nothing else', () => {
    const vhds = { SourceFilePath: '/srv/data/data.img', DestinationFilePath: '/mnt/fast/data.img' };
    const plan = planMove(input(multiple({ Vhds: [vhds] }))).plan!;
    expect(plan.disks).toEqual([{ disk: 1, source: '/srv/data/data.img', target: '/mnt/fast/data.img', format: 'raw' }]);
    expect(plan.configurationTarget).toBe(plan.configurationSource);
    expect(plan.after).toEqual({
      ...web01(),
      storageGeneration: 1,
      disks: [web01().disks[0], { ...web01().disks[1], path: '/mnt/fast/data.img' }],
    });
  });

  test('a VM with a pass-through disk can move its other disks by name', () => {
    const before = vmConfiguration('/srv/slow', [{ ...hardDisk(0, '/dev/sdb'), passThrough: true }, hardDisk(1, '/srv/data/data.img')]);
    const request = multiple({ Vhds: { SourceFilePath: '/srv/data/data.img', DestinationFilePath: '/mnt/fast/data.img' } });
    expect(planMove(input(request, before)).plan!.disks).toHaveLength(1);
  });

  test('nothing named is refused', () => {
    expect(() => multiple({})).toThrow(expect.objectContaining({ code: 'InvalidParameter' }));
  });
});

describe('-Vhds', () => {
  const pair = { SourceFilePath: '/srv/data/data.img', DestinationFilePath: '/mnt/fast/data.img' };

  test('takes one hashtable or several, keys in any case', () => {
    fc.assert(
      fc.property(fc.boolean(), fc.infiniteStream(fc.boolean()), (single, cases) => {
        const spell = (key: string): string =>
          key.replaceAll(/./g, (letter) => (cases.next().value ? letter.toUpperCase() : letter.toLowerCase()));
        const table = Object.fromEntries(Object.entries(pair).map(([key, value]) => [spell(key), value]));
        expect(multiple({ Vhds: single ? table : [table] }).destination).toMatchObject({
          vhds: [{ source: pair.SourceFilePath, target: pair.DestinationFilePath }],
        });
      }),
    );
  });

  test('a missing key is told in the known sentence', () => {
    expect(() => multiple({ Vhds: { SourceFilePath: '/a' } })).toThrow(
      "Hash tables in the Vhds parameter must contain 'DestinationFilePath' key",
    );
    expect(() => multiple({ Vhds: { DestinationFilePath: '/a' } })).toThrow(
      "Hash tables in the Vhds parameter must contain 'SourceFilePath' key",
    );
    expect(() => multiple({ Vhds: { SourceFilePath: '/a', DestinationFilePath: 7 } })).toThrow("must contain 'DestinationFilePath' key");
  });

  test('an empty array, a stray key, and something that is no hashtable are refused', () => {
    for (const Vhds of [[], { ...pair, Size: '1' }, 'text', [['a']], [null]])
      expect(() => multiple({ Vhds } as never)).toThrow(expect.objectContaining({ code: 'InvalidParameter' }));
  });

  test('differing leaf names are refused', () => {
    const request = multiple({ Vhds: { ...pair, DestinationFilePath: '/mnt/fast/other.img' } });
    expect(() => planMove(input(request))).toThrow('the source and destination file names must match');
  });

  test('a source that is not a disk of this VM is refused, one in other case is found', () => {
    const foreign = multiple({ Vhds: { ...pair, SourceFilePath: '/srv/other/data.img' } });
    expect(() => planMove(input(foreign))).toThrow(expect.objectContaining({ code: 'InvalidParameter', target: '/srv/other/data.img' }));
    const folded = multiple({ Vhds: { ...pair, SourceFilePath: '/SRV/Data/data.img' } });
    expect(planMove(input(folded)).plan!.disks[0]!.source).toBe('/srv/data/data.img');
  });

  test('the same disk twice is refused', () => {
    const request = multiple({ Vhds: [pair, { ...pair, DestinationFilePath: '/mnt/other/data.img' }] });
    expect(() => planMove(input(request))).toThrow(expect.objectContaining({ code: 'InvalidParameter' }));
  });

  test('relative paths count from where the user is', () => {
    expect(multiple({ Vhds: { SourceFilePath: 'a.img', DestinationFilePath: '../b/a.img' } }).destination).toMatchObject({
      vhds: [{ source: '/home/anna/a.img', target: '/home/b/a.img' }],
    });
  });
});

describe('switches', () => {
  test('-RetainVhdCopiesOnSource keeps every source, with that reason', () => {
    const { plan } = planMove(input(toFolder('/mnt/fast', { retainSources: true })));
    expect(plan!.keepSources).toEqual(plan!.disks.map((disk) => ({ path: disk.source, reason: RETAINED })));
  });

  test('-RemoveSourceUnmanagedVhds and -AllowUnverifiedPaths change nothing and say why', () => {
    const plain = planMove(input(toFolder('/mnt/fast')));
    const { plan, remarks } = planMove(input(toFolder('/mnt/fast', { removeUnmanagedParents: true, allowUnverifiedPaths: true })));
    expect(plan).toEqual(plain.plan);
    expect(remarks).toHaveLength(plain.remarks.length + 2);
  });

  test('-CimSession and -Credential are refused as not implemented', () => {
    for (const name of ['CimSession', 'Credential']) {
      expect(() => read('NameSingleDestination', { DestinationStoragePath: '/x', [name]: 'y' })).toThrow(
        expect.objectContaining({ code: 'NotImplemented' }),
      );
    }
  });

  test('-ComputerName is this host in any spelling, or an error of the category ResourceUnavailable', () => {
    for (const ComputerName of ['.', 'LOCALHOST', 'Host1', ['.', 'host1']])
      read('NameSingleDestination', { DestinationStoragePath: '/x', ComputerName });
    expect(() => read('NameSingleDestination', { DestinationStoragePath: '/x', ComputerName: 'other' })).toThrow(
      expect.objectContaining({ category: 'ResourceUnavailable', target: 'other' }),
    );
  });
});

describe('names and paths', () => {
  test('a VM is named by name, by object, or by the text an object turns into', () => {
    const destination = { DestinationStoragePath: '/x' };
    expect(read('NameSingleDestination', destination).vm).toEqual({ by: 'name', text: 'web01' });
    expect(read('VMSingleDestination', { ...destination, VM: { $t: 'VirtualMachine', Id: vmId } }).vm).toEqual({ by: 'id', text: vmId });
    expect(
      read('NameSingleDestination', { ...destination, Name: `VirtualMachine (Name = 'x') [Id = '${vmId.toUpperCase()}']` }).vm,
    ).toEqual({
      by: 'id',
      text: vmId.toUpperCase(),
    });
  });

  test('NUL and over-long names are refused', () => {
    for (const text of ['/a\0b', `/${'x'.repeat(256)}`, `/${'x/'.repeat(3000)}`])
      expect(() => nativePath(text, '/')).toThrow(expect.objectContaining({ code: 'InvalidParameter' }));
  });

  test('what comes out is always absolute and normal', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 60 }), (text) => {
        let out: string;
        try {
          out = nativePath(text, '/home/anna');
        } catch {
          return;
        }
        expect(out).toBe(path.posix.resolve(out));
        expect(out.startsWith('/')).toBe(true);
      }),
    );
  });
});
