/** Refusals before anything is written. Each test ends with the proof that nothing was. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { MoveFiles } from '../../../src/migration/ports.js';
import type { MoveRequest } from '../../../src/migration/request.js';
import { World, hardDisk, toFolder, vmConfiguration, vmId } from './world.js';

let world: World;
let before: string;
beforeEach(() => void (world = new World()));
afterEach(() => world.destroy());

/** Everything under the world: names, links, contents. */
function picture(): string {
  return fs
    .readdirSync(world.root, { recursive: true, withFileTypes: true })
    .map((entry) => {
      const at = path.join(entry.parentPath, entry.name);
      return `${at} ${entry.isSymbolicLink() ? fs.readlinkSync(at) : entry.isFile() ? fs.readFileSync(at, 'utf8').length : ''}`;
    })
    .sort()
    .join('\n');
}

async function refusal(request: MoveRequest, code: string, text: string | RegExp, files?: MoveFiles) {
  before = picture();
  const { moves, ports, steps } = world.host(undefined, files ? { files } : {});
  const vm = ports.registry.byId(vmId)!;
  await expect(moves.look(vm, request)).rejects.toMatchObject({ code, message: expect.stringMatching(text) as string });
  await expect(moves.submit(vm, request)).rejects.toMatchObject({ code });
  expect(steps.names).toEqual([]);
  expect(picture()).toBe(before);
  expect(ports.locks.isMoving(vmId)).toBe(false);
  return 'nothing changed';
}

/** A path to the file of a.img that is not the one the VM has for it. */
function anotherWay(way: string): string {
  const own = path.join(world.slow, 'a.img');
  const folder = path.join(world.root, 'another');
  if (way === 'a linked folder') fs.symlinkSync(world.slow, folder);
  else fs.mkdirSync(folder);
  const named = path.join(folder, 'a.img');
  if (way === 'a link to the file') fs.symlinkSync(own, named);
  if (way === 'a hard link') fs.linkSync(own, named);
  return named;
}

const vhd = (source: string, target: string): MoveRequest =>
  toFolder('', {
    destination: {
      kind: 'multiple',
      virtualMachinePath: null,
      snapshotFilePath: null,
      smartPagingFilePath: null,
      vhds: [{ source, target }],
    },
  });

describe('refused, and nothing changed:', () => {
  test('a file that is there already', async () => {
    fs.mkdirSync(path.join(world.fast, 'Virtual Hard Disks'), { recursive: true });
    fs.writeFileSync(path.join(world.fast, 'Virtual Hard Disks', 'a.img'), 'precious');
    expect(await refusal(toFolder(world.fast), 'AlreadyExists', /a\.img/)).toBe('nothing changed');
  });

  test('a configuration file that is there already', async () => {
    fs.mkdirSync(path.join(world.fast, 'Virtual Machines'), { recursive: true });
    fs.writeFileSync(path.join(world.fast, 'Virtual Machines', `${vmId}.vmcx`), '{}');
    expect(await refusal(toFolder(world.fast), 'AlreadyExists', /vmcx/)).toBe('nothing changed');
  });

  test('a symbolic link that leads nowhere at the target', async () => {
    fs.mkdirSync(path.join(world.fast, 'Virtual Hard Disks'), { recursive: true });
    fs.symlinkSync('/nowhere/at/all', path.join(world.fast, 'Virtual Hard Disks', 'a.img'));
    expect(await refusal(toFolder(world.fast), 'AlreadyExists', /symbolic link/)).toBe('nothing changed');
  });

  test('a symbolic link to the source at the target', async () => {
    fs.mkdirSync(world.fast);
    fs.symlinkSync(path.join(world.slow, 'a.img'), path.join(world.fast, 'a.img'));
    expect(
      await refusal(vhd(path.join(world.slow, 'a.img'), path.join(world.fast, 'a.img')), 'InvalidParameter', /itself under another name/),
    ).toBe('nothing changed');
  });

  test('a hard link of the source at the target', async () => {
    fs.mkdirSync(world.fast);
    fs.linkSync(path.join(world.slow, 'a.img'), path.join(world.fast, 'a.img'));
    expect(
      await refusal(vhd(path.join(world.slow, 'a.img'), path.join(world.fast, 'a.img')), 'InvalidParameter', /itself under another name/),
    ).toBe('nothing changed');
  });

  test('the place of another disk that moves away in the same move', async () => {
    const [a, b, at] = [path.join(world.slow, 'a.img'), path.join(world.slow, 'b.img'), path.join(world.root, 'other', 'a.img')];
    fs.mkdirSync(path.dirname(at));
    fs.linkSync(b, at);
    const request = vhd(a, at);
    if (request.destination.kind !== 'multiple') throw new Error('it names disks');
    const vhds = [
      { source: a, target: at },
      { source: b, target: path.join(world.fast, 'b.img') },
    ];
    const both = { ...request, destination: { ...request.destination, vhds } };
    expect(await refusal(both, 'AlreadyExists', /b\.img' of the virtual machine "web01" lies; a move never overwrites/)).toBe(
      'nothing changed',
    );
  });

  test('the same folder through a symbolic link', async () => {
    fs.symlinkSync(world.slow, world.fast);
    expect(
      await refusal(vhd(path.join(world.slow, 'a.img'), path.join(world.fast, 'a.img')), 'InvalidParameter', /itself under another name/),
    ).toBe('nothing changed');
  });

  test.each(['a linked folder', 'a link to the file', 'a hard link'])(
    'a disk that is named through %s and would be moved onto itself',
    async (way) => {
      const named = anotherWay(way);
      expect(await refusal(vhd(named, named), 'InvalidParameter', /itself under another name/)).toBe('nothing changed');
      const inside = path.join(named, 'a.img');
      expect(await refusal(vhd(named, inside), 'InvalidParameter', /inside the virtual machine's own file/)).toBe('nothing changed');
    },
  );

  test('a path in -Vhds that leads to a file of nobody, or to nothing', async () => {
    const stranger = path.join(world.root, 'a.img');
    for (const make of [() => undefined, () => fs.writeFileSync(stranger, 'x'), () => fs.mkdirSync(stranger)]) {
      fs.rmSync(stranger, { recursive: true, force: true });
      make();
      expect(await refusal(vhd(stranger, path.join(world.fast, 'a.img')), 'InvalidParameter', /is not a virtual hard disk/)).toBe(
        'nothing changed',
      );
    }
  });

  test('a path in -Vhds that cannot be looked at, for what the file system says of it', async () => {
    const loop = path.join(world.root, 'loop');
    fs.symlinkSync('loop', loop);
    const named = path.join(loop, 'a.img');
    const said = `'${named}' cannot be looked at: too many symbolic links encountered.`;
    expect(await refusal(vhd(named, path.join(world.fast, 'a.img')), 'StorageFailure', said)).toBe('nothing changed');
  });

  test.each([
    [{ code: 'EIO', errno: -5 }, 'EIO: i/o error, stat', 'StorageFailure', 'i/o error'],
    [{ code: 'Unknown system error -116', errno: -116 }, 'Unknown system error -116', 'StorageFailure', 'stale file handle'],
    [{ code: 'EACCES', errno: -13 }, 'EACCES: permission denied, stat', 'AccessDenied', 'permission denied'],
  ] as const)('a path in -Vhds, or the disk it may be, that the file system answers with %o', async (system, text, code, words) => {
    const named = anotherWay('a link to the file');
    const { ports } = world.host();
    for (const refused of [named, path.join(world.slow, 'a.img')]) {
      const facts: MoveFiles['facts'] = (at) =>
        at === refused ? Promise.reject(Object.assign(new Error(text), system)) : ports.files.facts(at);
      const said = `'${refused}' cannot be looked at: ${words}.`;
      const request = vhd(named, path.join(world.fast, 'a.img'));
      expect(await refusal(request, code, said, { ...ports.files, facts })).toBe('nothing changed');
    }
  });

  test.each(['freeBytes', 'realPath', 'isLink'] as const)('a file system that does not answer %s', async (question) => {
    const { ports } = world.host();
    const refuse = (at: string) => Promise.reject(Object.assign(new Error(`EIO: i/o error, x '${at}'`), { code: 'EIO', path: at }));
    const files = { ...ports.files, [question]: refuse };
    expect(await refusal(toFolder(world.fast), 'StorageFailure', /^'\/.*': i\/o error\.$/, files)).toBe('nothing changed');
  });

  test("a link to a disk whose destination has the link's name instead of the disk's", async () => {
    const link = path.join(world.root, 'link.img');
    fs.symlinkSync(path.join(world.slow, 'a.img'), link);
    const said = `'${path.join(world.slow, 'a.img')}' cannot be moved to '${path.join(world.fast, 'link.img')}'`;
    expect(await refusal(vhd(link, path.join(world.fast, 'link.img')), 'InvalidParameter', said)).toBe('nothing changed');
  });

  test("a destination inside the source's own file, directly and through a link", async () => {
    expect(await refusal(toFolder(path.join(world.slow, 'a.img')), 'InvalidParameter', /inside the virtual machine's own file/)).toBe(
      'nothing changed',
    );
    fs.symlinkSync(path.join(world.slow, 'a.img'), world.fast);
    expect(await refusal(toFolder(path.join(world.fast, 'x')), 'InvalidParameter', /inside the virtual machine's own file/)).toBe(
      'nothing changed',
    );
  });

  test('a destination that is a file', async () => {
    fs.writeFileSync(world.fast, 'a file');
    expect(await refusal(toFolder(world.fast), 'InvalidParameter', /not a folder/)).toBe('nothing changed');
  });

  test('a destination that is a dangling link', async () => {
    fs.symlinkSync('/nowhere/at/all', world.fast);
    expect(await refusal(toFolder(world.fast), 'InvalidParameter', /leads nowhere/)).toBe('nothing changed');
  });

  test('a destination that is not writable', async () => {
    const { ports } = world.host();
    const files = { ...ports.files, whyNoFiles: async () => 'permission denied' };
    const host = world.host(undefined, { files });
    await expect(host.moves.look(host.ports.registry.byId(vmId)!, toFolder(world.fast))).rejects.toMatchObject({ code: 'AccessDenied' });
    // Root may write anywhere but on a read-only file system: /proc is one for everybody.
    expect(await refusal(toFolder('/proc/sys/kernel'), 'AccessDenied', /not writable/)).toBe('nothing changed');
  });

  test.each(['/proc', '/sys'])('%s: the true reason, and not that there are no free bytes', async (folder) => {
    const why = /not writable for this host: it is a folder of the kernel's own/;
    expect(await refusal(toFolder(`${folder}/x`), 'AccessDenied', why)).toBe('nothing changed');
  });

  test('not enough space, growth included', async () => {
    const { ports } = world.host();
    const need = BigInt(2 * 'content of a.img\n'.repeat(100).length);
    const at = (freeBytes: bigint) => world.host(undefined, { files: { ...ports.files, freeBytes: async () => freeBytes } });
    const vm = ports.registry.byId(vmId)!;
    await expect(at(need - 1n).moves.look(vm, toFolder(world.fast))).rejects.toMatchObject({ code: 'NoSpace' });
    await expect(at(need).moves.look(vm, toFolder(world.fast))).resolves.toMatchObject({ checked: {}, warnings: [] });
  });

  test('a path that another VM names, though there is no file', async () => {
    const other = '2f1c7f0e-6f3b-4a1e-9d57-3b0a5f1f0002';
    const taken = path.join(world.fast, 'Virtual Hard Disks', 'a.img');
    world.add(vmConfiguration(path.join(world.root, 'other'), [hardDisk(0, taken)], other, 'db01'));
    expect(await refusal(toFolder(world.fast), 'ObjectInUse', /"db01"/)).toBe('nothing changed');
  });

  test('a source that another VM has as well', async () => {
    const other = '2f1c7f0e-6f3b-4a1e-9d57-3b0a5f1f0002';
    world.add(vmConfiguration(path.join(world.root, 'other'), [hardDisk(0, path.join(world.slow, 'a.img'))], other, 'db01'));
    expect(await refusal(toFolder(world.fast), 'ObjectInUse', /"db01"/)).toBe('nothing changed');
  });

  test('a target that another move holds', async () => {
    const { moves, ports } = world.host();
    ports.locks.claimPaths([path.join(world.fast, 'Virtual Hard Disks', 'a.img')], 'move m0');
    await expect(moves.look(ports.registry.byId(vmId)!, toFolder(world.fast))).rejects.toMatchObject({
      code: 'ObjectInUse',
      message: expect.stringContaining('move m0') as string,
    });
  });

  test('a disk whose file is missing', async () => {
    fs.rmSync(path.join(world.slow, 'a.img'));
    expect(await refusal(toFolder(world.fast), 'ObjectNotFound', /a\.img/)).toBe('nothing changed');
  });

  test('a disk that became a folder', async () => {
    fs.rmSync(path.join(world.slow, 'a.img'));
    fs.mkdirSync(path.join(world.slow, 'a.img'));
    expect(await refusal(toFolder(world.fast), 'InvalidState', /a folder/)).toBe('nothing changed');
  });

  test('two disks that meet in one file through a linked folder', async () => {
    fs.mkdirSync(world.fast);
    fs.mkdirSync(path.join(world.slow, 'sub'));
    fs.renameSync(path.join(world.slow, 'b.img'), path.join(world.slow, 'sub', 'a.img'));
    fs.symlinkSync(world.fast, path.join(world.root, 'link'));
    const file = world.readRegistry()[vmId]!;
    const disks = [hardDisk(0, path.join(world.slow, 'a.img')), hardDisk(1, path.join(world.slow, 'sub', 'a.img'))];
    fs.writeFileSync(file, JSON.stringify({ ...world.configuration(), disks }));
    const vhds = [
      { source: disks[0]!.path, target: path.join(world.fast, 'a.img') },
      { source: disks[1]!.path, target: path.join(world.root, 'link', 'a.img') },
    ];
    const destination = { kind: 'multiple' as const, virtualMachinePath: null, snapshotFilePath: null, smartPagingFilePath: null, vhds };
    expect(await refusal(toFolder('', { destination }), 'InvalidParameter', /would both become/)).toBe('nothing changed');
  });
});

describe('accepted:', () => {
  test('a destination that does not exist: its folders are planned, outermost first', async () => {
    const { moves, ports } = world.host();
    const { checked } = await moves.look(ports.registry.byId(vmId)!, toFolder(path.join(world.fast, 'deep')));
    expect(checked!.plan.createdFolders).toEqual([
      world.fast,
      path.join(world.fast, 'deep'),
      path.join(world.fast, 'deep', 'Virtual Hard Disks'),
      path.join(world.fast, 'deep', 'Virtual Machines'),
    ]);
  });

  test.each(['a linked folder', 'a link to the file', 'a hard link'])('a disk that -Vhds names through %s, as that disk', async (way) => {
    const { moves, ports } = world.host();
    const { checked } = await moves.look(ports.registry.byId(vmId)!, vhd(anotherWay(way), path.join(world.fast, 'a.img')));
    expect(checked!.plan.disks).toEqual([
      { disk: 0, source: path.join(world.slow, 'a.img'), target: path.join(world.fast, 'a.img'), format: 'raw' },
    ]);
  });

  test('a disk that -Vhds names by a link, although another disk of the VM cannot be looked at', async () => {
    const { ports: plain } = world.host();
    const facts: MoveFiles['facts'] = (at) =>
      at.endsWith('b.img') ? Promise.reject(Object.assign(new Error('EIO: i/o error, stat'), { code: 'EIO' })) : plain.files.facts(at);
    const { moves, ports } = world.host(undefined, { files: { ...plain.files, facts } });
    const { checked } = await moves.look(ports.registry.byId(vmId)!, vhd(anotherWay('a hard link'), path.join(world.fast, 'a.img')));
    expect(checked!.plan.disks).toMatchObject([{ source: path.join(world.slow, 'a.img') }]);
  });

  test('an empty tree that was made beforehand', async () => {
    for (const name of ['Virtual Hard Disks', 'Virtual Machines', 'Snapshots'])
      fs.mkdirSync(path.join(world.fast, name), { recursive: true });
    const { moves, ports } = world.host();
    const { checked } = await moves.look(ports.registry.byId(vmId)!, toFolder(world.fast));
    expect(checked!.plan.createdFolders).toEqual([]);
  });
});
