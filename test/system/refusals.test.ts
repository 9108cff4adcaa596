/**
 * What is refused before anything is written: each with its code, category and id, and with every file, folder and setting as it was.
 * Moves that fail in the middle are in destination-fails.test.ts, a second move of a moving VM in two-moves.test.ts.
 */
import { link, mkdir, open, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { invoke } from '../../src/client/invoke.js';
import { errorTable, type ErrorCode, type VmStorageError } from '../../src/model/errors.js';
import { encodeFrame, FrameDecoder } from '../../src/protocol/frames.js';
import type { WireValue } from '../../src/protocol/messages.js';
import { Instance, type CmdletCall, type Refusal } from '../support/instance.js';
import { listing } from '../support/listing.js';
import { filesBelow } from '../support/machine.js';
import { loopDevice, mountKernelFileSystem, mountTmpfs } from '../support/mounts.js';
import { lacks } from '../support/requires.js';
import { Serving } from '../support/serving.js';
import { until } from '../support/until.js';

const DISK_BYTES = 16 * 2 ** 20;

describe('a request that cannot be carried out is refused and changes nothing:', () => {
  let instance: Instance;
  const at = (...place: string[]): string => join(instance.folder, ...place);

  /** A VM that is off, with its storage in start/<name>. */
  async function make(name: string, leaf = `${name}.img`): Promise<string> {
    await mkdir(at('start', name), { recursive: true });
    const path = at('start', name, leaf);
    const kind = leaf.endsWith('.vhdx') ? 'Dynamic' : 'Fixed';
    await instance.run('New-VHD', { Path: [path], SizeBytes: String(DISK_BYTES), [kind]: true }, { set: `${kind}WithoutSource` });
    await instance.run('New-VM', { Name: name, Path: at('start', name), VHDPath: path }, { set: 'Existing VHD' });
    return path;
  }

  async function expectRefused(
    code: ErrorCode,
    words: RegExp,
    cmdlet: string,
    bound: { readonly [name: string]: WireValue },
    how: CmdletCall = {},
  ): Promise<Refusal> {
    const settings = (): Promise<unknown> => Promise.all([instance.run('Get-VM', {}), instance.run('Get-VMStorageMove', {})]);
    const before = [await listing(at('start'), at('to')), await settings()];
    const refusal = await instance.refusal(cmdlet, bound, how);
    expect(refusal).toMatchObject({ code, category: errorTable[code][1], errorId: errorTable[code][2] });
    expect(refusal.message).toMatch(words);
    expect([await listing(at('start'), at('to')), await settings()]).toEqual(before);
    return refusal;
  }

  const expectMoveRefused = (code: ErrorCode, words: RegExp, to: string, name = 'vm'): Promise<Refusal> =>
    expectRefused(code, words, 'Move-VMStorage', { Name: name, DestinationStoragePath: to });
  const expectVhdsRefused = (code: ErrorCode, words: RegExp, Vhds: WireValue): Promise<Refusal> =>
    expectRefused(code, words, 'Move-VMStorage', { Name: 'vm', Vhds }, { set: 'NameMultipleDestinations' });
  const pair = (SourceFilePath: string, DestinationFilePath: string): { [key: string]: WireValue } => ({
    SourceFilePath,
    DestinationFilePath,
  });

  let disk: string;
  let otherDisk: string;
  beforeAll(async () => {
    instance = await Instance.start('refusals');
    await mkdir(at('to'));
    disk = await make('vm');
    otherDisk = await make('other');
  });
  afterAll(async () => {
    await instance?.[Symbol.asyncDispose]();
  });

  it('an unknown VM', () => expectMoveRefused('ObjectNotFound', /unable to find a virtual machine with name "nobody"/, at('to'), 'nobody'));

  it('one unknown VM of several; the others are moved', async () => {
    const errors: VmStorageError[] = [];
    await invoke(
      {
        address: instance.paths.hostSocket,
        cmdlet: 'Move-VMStorage',
        records: ['other', 'nobody', 'vm'].map((Name) => ({
          parameterSet: 'NameSingleDestination',
          bound: { Name, DestinationStoragePath: at('start', `${Name}-moved`) },
        })),
      },
      { output: () => {}, error: (error) => void errors.push(error), text: () => {}, progress: () => {}, ask: () => true },
    );
    expect(errors.map(({ code, target }) => ({ code, target }))).toEqual([{ code: 'ObjectNotFound', target: 'nobody' }]);
    disk = at('start/vm-moved/Virtual Hard Disks/vm.img');
    otherDisk = at('start/other-moved/Virtual Hard Disks/other.img');
    expect(filesBelow(at('start'))).toEqual(expect.arrayContaining([disk, otherDisk]));
    expect(filesBelow(at('start/vm'))).toEqual([]);
  });

  it.skipIf(lacks('root', 'losetup'))('a VM with a pass-through disk', async () => {
    await writeFile(at('device.back'), '');
    await truncate(at('device.back'), DISK_BYTES);
    await using device = await loopDevice(at('device.back'));
    await instance.run('Add-VMHardDiskDrive', { VMName: ['vm'], Path: device.path });
    await expectMoveRefused('InvalidState', /pass-through.*Detach it first/, at('to'));
    const drives = await instance.run('Get-VMHardDiskDrive', { VMName: ['vm'] });
    const { ControllerType, ControllerNumber, ControllerLocation } = drives.find(({ Path }) => Path === device.path)!;
    await instance.run('Remove-VMHardDiskDrive', {
      VMName: 'vm',
      ControllerType: ControllerType!,
      ControllerNumber: ControllerNumber!,
      ControllerLocation: ControllerLocation!,
    });
  });

  it("a destination inside the source's own file, and a link to it", async () => {
    await expectMoveRefused('InvalidParameter', /inside the virtual machine's own file/, join(disk, 'below'));
    await symlink(disk, at('to/link'));
    await expectMoveRefused('InvalidParameter', /inside the virtual machine's own file/, at('to/link'));
    await expectVhdsRefused('InvalidParameter', /./, pair(disk, join(disk, 'vm.img')));
    await rm(at('to/link'));
    await mkdir(at('to/links'));
    await symlink(disk, at('to/links/vm.img'));
    await expectVhdsRefused('InvalidParameter', /itself under another name/, pair(disk, at('to/links/vm.img')));
    await rm(at('to/links'), { recursive: true });
  });

  it('a file that is there already, and a link that leads nowhere', async () => {
    await mkdir(at('to/taken/Virtual Hard Disks'), { recursive: true });
    await writeFile(at('to/taken/Virtual Hard Disks/vm.img'), 'precious');
    await expectMoveRefused('AlreadyExists', /never overwrites/, at('to/taken'));
    await rm(at('to/taken/Virtual Hard Disks/vm.img'));
    await symlink(at('nowhere'), at('to/taken/Virtual Hard Disks/vm.img'));
    await expectMoveRefused('AlreadyExists', /symbolic link/, at('to/taken'));
    await rm(at('to/taken'), { recursive: true });
  });

  it('a destination that is no folder', async () => {
    await writeFile(at('to/file'), 'precious');
    await expectMoveRefused('InvalidParameter', /not a folder/, at('to/file'));
    await expectMoveRefused('InvalidParameter', /not a folder/, at('to/file/below'));
  });

  it.skipIf(lacks('root'))('a destination that cannot be written, or has too little space', async () => {
    {
      await using readOnly = await mountTmpfs(at('read-only'), 'ro,size=256m');
      await expectMoveRefused('AccessDenied', /not writable for this host: its file system is mounted read-only/, readOnly.path);
      await expectMoveRefused('AccessDenied', /read-only' is not writable for this host: its file/, join(readOnly.path, 'deep/below'));
    }
    await using groups = await mountKernelFileSystem('cgroup2', at('groups'));
    for (const [type, folder] of Object.entries({ proc: '/proc', sysfs: '/sys', devpts: '/dev/pts', cgroup2: groups.path })) {
      const why = new RegExp(`'${folder}' is not writable for this host: it is a folder of the kernel's own \\(${type}\\)`);
      await expectMoveRefused('AccessDenied', why, join(folder, 'x'));
    }
    await using small = await mountTmpfs(at('small'), 'size=12m');
    await expectMoveRefused('NoSpace', /16\.0 MB are needed.*12\.0 MB are free/, small.path);
    expect(await listing(small.path)).toEqual({});
  });

  it('a -Vhds pair that is not one of this VM, whose names differ, that lacks a key, that is empty', async () => {
    await expectVhdsRefused('InvalidParameter', /is not a virtual hard disk of the virtual machine "vm"/, [
      pair(otherDisk, at('to/other.img')),
    ]);
    await expectVhdsRefused('InvalidParameter', /file names must match/, [pair(disk, at('to/renamed.img'))]);
    await expectVhdsRefused('InvalidParameter', /must contain 'DestinationFilePath' key/, [{ SourceFilePath: disk }]);
    await expectVhdsRefused('InvalidParameter', /must contain 'SourceFilePath' key/, [{ DestinationFilePath: at('to/vm.img') }]);
    await expectVhdsRefused('InvalidParameter', /is empty/, []);
    await expectVhdsRefused('InvalidParameter', /more than once/, [pair(disk, at('to/vm.img')), pair(disk, at('to/b/vm.img'))]);
  });

  it('a disk that another VM uses', async () => {
    await expectRefused('ObjectInUse', /"other" has it attached/, 'Add-VMHardDiskDrive', { VMName: ['vm'], Path: otherDisk });
    await link(otherDisk, at('to/hard-link.img'));
    await expectRefused('ObjectInUse', /"other" has it attached/, 'Add-VMHardDiskDrive', { VMName: ['vm'], Path: at('to/hard-link.img') });
    await rm(at('to/hard-link.img'));
  });

  it('a disk that another process serves, said before anybody loses patience', async () => {
    const path = await make('served');
    const before = await listing(at('start'), at('to'));
    await using serving = await Serving.start(path, at('served.sock'));
    const beganMs = performance.now();
    const refusal = await instance.refusal('Move-VMStorage', { Name: 'served', DestinationStoragePath: at('to') });
    expect(refusal).toMatchObject({ code: 'ObjectInUse', message: expect.stringContaining(`'${path}' is in use by another process`) });
    expect(performance.now() - beganMs).toBeLessThan(45_000);
    await serving.end();
    expect(await listing(at('start'), at('to'))).toEqual(before);
    await instance.run('Remove-VM', { Name: ['served'] });
  }, 120_000);

  it('a VHDX whose checksums or regions are wrong, with the rule that it breaks', async () => {
    const path = await make('broken', 'broken.vhdx');
    const spoil = async (...places: readonly number[]): Promise<() => Promise<void>> => {
      await using file = await open(path, 'r+');
      const before: Buffer[] = [];
      for (const place of places) {
        const byte = Buffer.alloc(1);
        await file.read(byte, 0, 1, place);
        before.push(Buffer.from(byte));
        byte[0]! ^= 0xff;
        await file.write(byte, 0, 1, place);
      }
      return async () => {
        await using again = await open(path, 'r+');
        for (const [i, place] of places.entries()) await again.write(before[i]!, 0, 1, place);
      };
    };
    const KIB = 1024;
    let mend = await spoil(64 * KIB + 100, 128 * KIB + 100); // both headers
    await expectMoveRefused('ImageCorrupt', /neither header has a valid signature and checksum \(2\.2\.2\)/, at('to'), 'broken');
    await mend();
    mend = await spoil(192 * KIB + 100, 256 * KIB + 100); // both region tables
    await expectMoveRefused('ImageCorrupt', /neither region table has a valid signature and checksum \(2\.2\.3\)/, at('to'), 'broken');
    await mend();
    await instance.run('Move-VMStorage', { Name: 'broken', DestinationStoragePath: at('start/mended') });
  });

  it('what is not implemented', async () => {
    await expectRefused('NotImplemented', /-ResourcePoolName 'pool' is not implemented: it is always Primordial/, 'Move-VMStorage', {
      Name: 'vm',
      DestinationStoragePath: at('to'),
      ResourcePoolName: 'pool',
    });
  });

  it('nothing, but a source with further hard links is kept, with a warning', async () => {
    await link(disk, at('start/second-name.img'));
    const { warnings, errors } = await instance.collect('Move-VMStorage', { Name: 'vm', DestinationStoragePath: at('start/linked') });
    expect(errors).toEqual([]);
    expect(warnings.join('\n')).toMatch(/will be moved, but its old file will not be deleted: it has 1 further hard link/);
    expect(filesBelow(at('start'))).toEqual(
      expect.arrayContaining([disk, at('start/second-name.img'), at('start/linked/Virtual Hard Disks/vm.img')]),
    );
    await rm(disk);
  });

  it("a foreign process on the worker's socket, and not a dead one", async () => {
    await make('framed');
    const [vm] = await instance.run('Get-VM', { Name: ['framed'] });
    const socket = instance.paths.workerSocket(String(vm!['Id']));
    await mkdir(join(socket, '..'), { recursive: true, mode: 0o700 });
    const asked: string[] = [];
    const foreign = createServer((connection) => {
      const decoder = new FrameDecoder();
      connection.on('error', () => connection.destroy());
      connection.on('data', (chunk: Buffer) => {
        for (const message of decoder.push(chunk)) {
          const { id, method } = message as { id: number; method: string };
          asked.push(method);
          const result = { pid: process.pid, vmId: vm!['Id'], io: '', disks: [], move: null, journal: null };
          connection.write(encodeFrame({ id, result }));
        }
      });
    });
    foreign.listen(socket);
    await once(foreign, 'listening');
    const refusal = await instance.refusal('Move-VMStorage', { Name: 'framed', DestinationStoragePath: at('to/framed') });
    expect(refusal).toMatchObject({ code: 'ProtocolError', category: 'ProtocolError' });
    expect(refusal.message).toMatch(/foreign process/);
    expect(new Set(asked)).toEqual(new Set(['status'])); // nothing of ours was told to it
    expect(filesBelow(at('to/framed'))).toEqual([]);
    await new Promise((resolve) => foreign.close(resolve));
    // A socket whose process is gone is in nobody's way.
    const dead = createServer().listen(socket);
    await once(dead, 'listening');
    await link(socket, `${socket}.kept`);
    await new Promise((resolve) => dead.close(resolve));
    await link(`${socket}.kept`, socket);
    await rm(`${socket}.kept`);
    await instance.run('Move-VMStorage', { Name: 'framed', DestinationStoragePath: at('to/framed') });
  });

  it('anything, when the host does not run: it says how to start it', async () => {
    await instance.killHost();
    expect(await instance.refusal('Get-VM', {})).toMatchObject({
      code: 'HostNotReachable',
      category: 'ConnectionError',
      message: expect.stringMatching(/Start it with 'vmstorage host start'/) as string,
    });
    await instance.startHost();
    await until('the VMs are there', async () => ((await instance.run('Get-VM', {})).length === 4 ? true : undefined));
  });
});
