/** The cmdlets the host answers: what they return, what they refuse, in which words, and that a refusal changes nothing. */
import { execFileSync } from 'node:child_process';
import { mkdir, readdir, readFile, rename, symlink, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VmStorageError } from '../../../src/model/errors.js';
import type { MoveStatus } from '../../../src/model/move.js';
import { outsideLook } from '../../../src/os/outside-look.js';
import { makeStage, type Stage } from './stage.js';

let stage: Stage;
beforeEach(async () => {
  stage = await makeStage();
});
afterEach(() => stage.end());

const id = (name: string) => stage.services.registry.find(name)[0]!.configuration.id;
async function machine(name: string, disk?: string): Promise<string> {
  const path = join(stage.folder, disk ?? '');
  if (disk) await writeFile(path, 'image');
  const made = await stage.run('New-VM', { Name: name, Path: stage.folder, Generation: 2, ...(disk ? { VHDPath: path } : {}) });
  expect(made.errors).toEqual([]);
  return id(name);
}

describe('Get-VM', () => {
  it("returns the machines that are there and one error, in Hyper-V's words, for each name that is not", async () => {
    await machine('web01');
    await machine('web02');
    const { output, errors } = await stage.run('Get-VM', { Name: ['WEB01', 'missing', 'web02'] });
    expect(output.map((vm) => vm['Name'])).toEqual(['web01', 'web02']);
    expect(errors).toMatchObject([
      {
        errorId: 'InvalidParameter',
        category: 'InvalidArgument',
        target: 'missing',
        message: 'Hyper-V was unable to find a virtual machine with name "missing".',
      },
    ]);
  });

  it('is silent about a pattern that matches nothing, and takes * ? and [a-z]', async () => {
    await machine('web01');
    await machine('db[1]');
    expect(await stage.run('Get-VM', { Name: ['x*'] })).toMatchObject({ output: [], errors: [] });
    const names = async (pattern: string) => (await stage.run('Get-VM', { Name: [pattern] })).output.map((vm) => vm['Name']);
    expect(await names('w*')).toEqual(['web01']);
    expect(await names('web0?')).toEqual(['web01']);
    expect(await names('[u-w]eb01')).toEqual(['web01']);
    expect(await names('db[1]')).toEqual(['db[1]']);
    expect(await names('db`[1`]')).toEqual(['db[1]']);
    expect(await names('db`[*')).toEqual(['db[1]']);
    expect(await names('w.b01')).toEqual([]);
  });

  it('by id: an unknown one is named', async () => {
    const known = await machine('web01');
    expect((await stage.run('Get-VM', { Id: known.toUpperCase() })).output).toHaveLength(1);
    expect((await stage.run('Get-VM', { Id: '00000000-0000-0000-0000-000000000000' })).errors[0]!.message).toMatch(
      /^Hyper-V was unable to find a virtual machine with id/,
    );
  });

  it("shows a machine with Hyper-V's property names and where its logs are", async () => {
    const vmId = await machine('web01', 'web01.vhdx');
    const [vm] = (await stage.run('Get-VM')).output;
    expect(vm).toMatchObject({
      $t: 'VirtualMachine',
      Name: 'web01',
      Id: vmId,
      State: 'Off',
      Status: 'Operating normally',
      OperationalStatus: ['Ok'],
      Generation: 2,
      Path: stage.folder,
      ConfigurationLocation: stage.folder,
      MemoryStartup: '536870912',
      MemoryAssigned: '0',
      Uptime: '00:00:00',
      Notes: `Logs: ${stage.services.paths.vmLogFolder(vmId)}`,
      HardDrives: [
        {
          $t: 'HardDiskDrive',
          VMName: 'web01',
          VMId: vmId,
          ControllerType: 'SCSI',
          ControllerNumber: 0,
          ControllerLocation: 0,
          Path: join(stage.folder, 'web01.vhdx'),
        },
      ],
    });
  });

  it('shows a running move with phase and percent, and why a guest waits', async () => {
    const vmId = await machine('web01');
    const move = (phase: MoveStatus['phase'], percent: number) => stage.moves.set(vmId, { phase, percent, outcome: null } as MoveStatus);
    const status = async () => (await stage.run('Get-VM')).output.map((vm) => [vm['Status'], vm['OperationalStatus']])[0];
    stage.states.set(vmId, 'Running');
    move('copy', 42.7);
    expect(await status()).toEqual(['Moving storage: copying, 42%', ['StorageMigrationPhaseOne']]);
    move('mirror', 90);
    expect(await status()).toEqual(['Moving storage: mirroring, 90%', ['StorageMigrationPhaseTwo']]);
    stage.trouble = 'the storage worker could not be started again (attempt 3): no memory';
    expect(await status()).toEqual([
      'The storage worker could not be started again (attempt 3): no memory. The guest is waiting.',
      ['SupportingEntityInError', 'StorageMigrationPhaseTwo'],
    ]);
  });

  it("shows what a guest's storage refuses: disk, path, request and errno, second to a move that runs, for an hour", async () => {
    const vmId = await machine('web01');
    const shown = async () => (await stage.run('Get-VM')).output[0]!;
    const error = { disk: 1, path: '/srv/a.vhdx', errno: 5, reason: 'Input/output error', request: 'read', offset: '4096', count: 49 };
    const at = new Date().toISOString();
    const text = `Disk 1 ('/srv/a.vhdx') refused the guest's read at byte 4096 at ${at}: Input/output error (errno 5). 49 requests failed so far.`;
    stage.states.set(vmId, 'Running');
    stage.diskErrors = [{ ...error, at }];
    expect(await shown()).toMatchObject({ Status: text, PrimaryOperationalStatus: 'Degraded', SecondaryOperationalStatus: null });
    stage.moves.set(vmId, { phase: 'copy', percent: 3, outcome: null } as MoveStatus);
    expect(await shown()).toMatchObject({
      Status: 'Moving storage: copying, 3%',
      OperationalStatus: ['StorageMigrationPhaseOne', 'Degraded'],
      SecondaryStatusDescription: text,
    });
    stage.moves.clear();
    stage.diskErrors = [{ ...error, at: new Date(Date.now() - 61 * 60_000).toISOString() }];
    expect(await shown()).toMatchObject({ Status: 'Operating normally', OperationalStatus: ['Ok'] });
  });

  it('reports a machine whose configuration cannot be used, beside the others', async () => {
    await machine('good');
    const vmId = await machine('bad');
    const file = stage.services.registry.byId(vmId)!.configurationFile;
    await rename(file, `${file}.away`);
    await stage.services.registry.repoint(vmId, file).catch(() => {});
    const { openRegistry } = await import('../../../src/registry/registry.js');
    const { systemFiles } = await import('../../../src/os/files.js');
    const again = await openRegistry(stage.services.paths, systemFiles, stage.services.heldFolders, stage.services.log, outsideLook());
    expect(again.faults()).toMatchObject([{ vmId, reason: 'no such file or directory' }]);
  });
});

describe('New-VM', () => {
  it('writes the configuration below its path and nothing with -WhatIf', async () => {
    const asked = await stage.run('New-VM', { Name: 'web01', Path: join(stage.folder, 'vms') }, { yes: false });
    expect(asked.asked).toEqual(['New-VM will create a new virtual machine "web01".']);
    expect(await readdir(stage.folder)).toEqual(['home']);
    const { output } = await stage.run('New-VM', { Name: 'web01', Path: join(stage.folder, 'vms') });
    const files = await readdir(join(stage.folder, 'vms', 'Virtual Machines'));
    expect(files).toEqual([`${String(output[0]!['Id'])}.vmcx`]);
    expect(JSON.parse(await readFile(join(stage.folder, 'vms', 'Virtual Machines', files[0]!), 'utf8'))).toMatchObject({
      schema: 1,
      name: 'web01',
      generation: 1,
    });
  });

  it('creates its disk, at IDE 0:0 for generation 1, and removes it again when the machine cannot be registered', async () => {
    const disk = join(stage.folder, 'new.vhdx');
    const { output } = await stage.run('New-VM', { Name: 'web01', Path: stage.folder, NewVHDPath: disk, NewVHDSizeBytes: String(2 ** 30) });
    expect(output[0]!['HardDrives']).toMatchObject([{ ControllerType: 'IDE', ControllerNumber: 0, ControllerLocation: 0, Path: disk }]);
    await writeFile(join(stage.folder, 'blocked'), '');
    const refused = await stage.run('New-VM', {
      Name: 'web02',
      Path: join(stage.folder, 'blocked'),
      NewVHDPath: join(stage.folder, 'second.vhdx'),
      NewVHDSizeBytes: String(2 ** 30),
    });
    expect(refused.errors).toHaveLength(1);
    expect(await readdir(stage.folder)).not.toContain('second.vhdx');
  });

  it('puts a disk that is a file name alone under -Path, and without -Path into the folder of the host', async () => {
    const create = async (bound: { [name: string]: string }) => {
      const { output } = await stage.run('New-VM', { Name: 'web01', NewVHDPath: 'new.vhdx', NewVHDSizeBytes: String(2 ** 30), ...bound });
      return output[0]!['HardDrives'];
    };
    const own = join(stage.folder, 'vms', 'Virtual Hard Disks', 'new.vhdx');
    expect(await create({ Path: join(stage.folder, 'vms') })).toMatchObject([{ Path: own }]);
    await mkdir(join(stage.folder, 'disks'));
    await stage.run('Set-VMHost', { VirtualHardDiskPath: join(stage.folder, 'disks') });
    expect(await create({})).toMatchObject([{ Path: join(stage.folder, 'disks', 'new.vhdx') }]);
  });

  it('refuses a disk that another machine has, that is missing, damaged or no disk by its name, and changes nothing', async () => {
    await machine('web01', 'web01.vhdx');
    const tryDisk = async (path: string) => (await stage.run('New-VM', { Name: 'web02', Path: stage.folder, VHDPath: path })).errors[0]!;
    expect(await tryDisk(`${stage.folder}/./web01.vhdx`)).toMatchObject({
      code: 'ObjectInUse',
      message: expect.stringContaining('virtual machine "web01" has it attached'),
    });
    expect(await tryDisk('/nowhere/a.vhdx')).toMatchObject({ code: 'ObjectNotFound' });
    for (const [name, code] of [
      ['a.vhd', 'NotImplemented'],
      ['a.qcow2', 'NotImplemented'],
      ['a.txt', 'InvalidParameter'],
    ] as const) {
      await writeFile(join(stage.folder, name), '');
      expect(await tryDisk(join(stage.folder, name))).toMatchObject({ code });
    }
    expect(await tryDisk(stage.folder)).toMatchObject({ code: 'InvalidParameter' });
    await writeFile(join(stage.folder, 'bad.vhdx'), '');
    stage.inspectFails = new VmStorageError('ImageCorrupt', 'The checksum of the region table is wrong.');
    expect(await tryDisk(join(stage.folder, 'bad.vhdx'))).toMatchObject({
      code: 'ImageCorrupt',
      message: expect.stringContaining('region table'),
    });
    expect(stage.services.registry.list()).toHaveLength(1);
  });

  it('refuses what is not implemented, and other computers', async () => {
    expect((await stage.run('New-VM', { Name: 'a', SwitchName: 'net' })).errors[0]).toMatchObject({ code: 'NotImplemented' });
    expect((await stage.run('New-VM', { Name: 'a', ComputerName: ['elsewhere'] })).errors[0]).toMatchObject({
      category: 'ResourceUnavailable',
    });
    expect((await stage.run('New-VM', { Name: 'a\u0007', Path: stage.folder })).errors[0]).toMatchObject({ code: 'InvalidParameter' });
    expect((await stage.run('New-VM', { Name: 'a', Path: stage.folder, KernelArguments: 'quiet' })).errors[0]).toMatchObject({
      code: 'InvalidParameter',
    });
    expect((await stage.run('New-VM', { Name: 'a', Path: stage.folder, KernelPath: stage.folder })).errors[0]).toMatchObject({
      code: 'InvalidParameter',
      message: `'${stage.folder}' cannot be booted: it is not a file.`,
    });
    expect(stage.services.registry.list()).toEqual([]);
    expect((await stage.run('Get-VM', { ComputerName: ['.', 'LOCALHOST', hostname()] })).errors).toEqual([]);
  });
});

describe('Start-VM and Stop-VM', () => {
  it("start the worker before the guest, and only if the guest's own process is at the other end of its disks", async () => {
    const vmId = await machine('web01', 'web01.vhdx');
    stage.calls.length = 0;
    expect((await stage.run('Start-VM', { Name: ['web01'], Passthru: true })).output[0]).toMatchObject({ State: 'Running' });
    expect(stage.calls).toEqual(['worker status', 'worker refuseInUse', 'worker status', 'start web01']);
    await stage.run('Stop-VM', { Name: ['web01'], TurnOff: true });
    stage.peerPid = 666;
    const { errors } = await stage.run('Start-VM', { Name: ['web01'] });
    expect(errors[0]).toMatchObject({ code: 'HypervisorFailure', message: expect.stringContaining('is connected to process 666') });
    expect(stage.states.get(vmId)).toBe('Off');
  }, 15_000);

  it('name the machine that does not start for its disk', async () => {
    await machine('web01', 'web01.vhdx');
    stage.workerFails = new VmStorageError('ObjectNotFound', "cannot open for writing '/srv/web01.vhdx': No such file or directory.");
    expect((await stage.run('Start-VM', { Name: ['web01'] })).errors[0]).toMatchObject({
      code: 'ObjectNotFound',
      message: `Virtual machine "web01" could not be started: cannot open for writing '/srv/web01.vhdx': No such file or directory.`,
      target: 'web01',
    });
  });

  it("say what is already so, and ask with Hyper-V's sentences", async () => {
    await machine('web01');
    expect(await stage.run('Stop-VM', { Name: ['web01'] })).toMatchObject({
      warnings: ['The virtual machine is already in the specified state.'],
      asked: ['Stop-VM will shut down the virtual machine "web01".'],
    });
    expect(await stage.run('Start-VM', { Name: ['web01'] })).toMatchObject({
      warnings: [],
      asked: ['Start-VM will start the virtual machine "web01".'],
    });
    expect((await stage.run('Start-VM', { Name: ['web01'] })).warnings).toHaveLength(1);
    expect((await stage.run('Stop-VM', { Name: ['web01'], TurnOff: true }, { yes: false })).asked).toEqual([
      'Stop-VM will turn off the virtual machine "web01".',
    ]);
    expect(stage.calls).not.toContain('plug');
  });

  it('press the button and pull the plug only when told to', async () => {
    const vmId = await machine('web01');
    stage.obeys = false;
    stage.states.set(vmId, 'Running');
    expect((await stage.run('Stop-VM', { Name: ['web01'] })).errors[0]).toMatchObject({
      code: 'OperationFailed',
      message: expect.stringContaining('-TurnOff'),
    });
    expect(stage.calls).toEqual(['power button']);
    expect((await stage.run('Stop-VM', { Name: ['web01'], Force: true })).errors).toEqual([]);
    expect(stage.calls).toEqual(['power button', 'power button', 'plug']);
  });

  it('several piped, one unknown: the others are started', async () => {
    await machine('web01');
    const { errors } = await stage.run('Start-VM', { Name: ['nope', 'web01'] });
    expect(errors).toMatchObject([{ errorId: 'ObjectNotFound', category: 'ObjectNotFound' }]);
    expect(stage.calls).toContain('start web01');
  });
});

describe('what is refused while the storage moves', () => {
  it('is removing, attaching, detaching and changing; looking is not', async () => {
    const vmId = await machine('web01', 'web01.vhdx');
    await writeFile(join(stage.folder, 'second.img'), '');
    const claim = stage.services.locks.claimMove(vmId);
    const attempts: [string, Record<string, never>][] = [
      ['Remove-VM', { Name: ['web01'] } as never],
      ['Set-VM', { Name: ['web01'], Notes: 'x' } as never],
      ['Add-VMHardDiskDrive', { VMName: ['web01'], Path: join(stage.folder, 'second.img') } as never],
      ['Remove-VMHardDiskDrive', { VMName: 'web01', ControllerType: 'SCSI', ControllerNumber: 0, ControllerLocation: 0 } as never],
    ];
    for (const [cmdlet, bound] of attempts) {
      expect((await stage.run(cmdlet, bound)).errors[0], cmdlet).toMatchObject({
        errorId: 'ObjectInUse',
        category: 'ResourceBusy',
        message: expect.stringMatching(/^The operation cannot be performed while the object is in use\./),
      });
    }
    expect(() => stage.services.locks.claimMove(vmId)).toThrow(/already being moved/);
    expect((await stage.run('Get-VMHardDiskDrive', { VMName: ['web01'] })).output).toHaveLength(1);
    claim.release();
    await mkdir(stage.services.paths.movesFolder, { recursive: true });
    await writeFile(stage.services.paths.journal(vmId), ''); // an interrupted move nobody has taken up yet
    expect((await stage.run('Remove-VM', { Name: ['web01'] })).errors[0]).toMatchObject({ code: 'ObjectInUse' });
  });
});

describe('hard disk drives', () => {
  it('take the first free place of their generation, the asked place, or say that there is none', async () => {
    await stage.run('New-VM', { Name: 'old', Path: stage.folder, Generation: 1 });
    const add = async (file: string, bound: object = {}) => {
      await writeFile(join(stage.folder, file), '');
      return stage.run('Add-VMHardDiskDrive', { VMName: ['old'], Path: join(stage.folder, file), Passthru: true, ...bound });
    };
    const place = ({ output }: { output: Record<string, unknown>[] }) =>
      output.map((drive) => `${drive['ControllerType']} ${drive['ControllerNumber']}:${drive['ControllerLocation']}`);
    expect(place(await add('0.img'))).toEqual(['IDE 0:0']);
    expect(place(await add('1.img'))).toEqual(['IDE 0:1']);
    expect(place(await add('2.img', { ControllerType: 'SCSI' }))).toEqual(['SCSI 0:0']);
    expect(place(await add('3.img', { ControllerType: 'SCSI', ControllerNumber: 0, ControllerLocation: 9 }))).toEqual(['SCSI 0:9']);
    expect((await add('4.img', { ControllerType: 'SCSI', ControllerNumber: 0, ControllerLocation: 9 })).errors[0]).toMatchObject({
      message: expect.stringContaining('already in use'),
    });
    expect((await add('4.img', { ControllerType: 'SCSI', ControllerNumber: 2 })).errors[0]).toMatchObject({ code: 'ObjectNotFound' });
    expect((await add('3.img')).errors[0]).toMatchObject({ code: 'ObjectInUse' });
    expect((await stage.run('Get-VMHardDiskDrive', { VMName: ['old'], ControllerType: 'SCSI' })).output).toHaveLength(2);
  });

  it('are detached by place or by object while the machine is off, and the file stays', async () => {
    const vmId = await machine('web01', 'web01.vhdx');
    const [drive] = (await stage.run('Get-VMHardDiskDrive', { VMName: ['web01'] })).output;
    stage.states.set(vmId, 'Running');
    const bound = { VMHardDiskDrive: [{ $t: 'HardDiskDrive', VMId: vmId, VMName: 'web01', Id: drive!['Id']! }] };
    expect((await stage.run('Remove-VMHardDiskDrive', bound)).errors[0]).toMatchObject({
      errorId: 'InvalidState',
      message: expect.stringMatching(/^The operation cannot be performed while the virtual machine is in its current state\./),
    });
    stage.states.set(vmId, 'Off');
    expect((await stage.run('Remove-VMHardDiskDrive', bound)).errors).toEqual([]);
    expect(stage.services.registry.byId(vmId)!.configuration.disks).toEqual([]);
    expect(await readdir(stage.folder)).toContain('web01.vhdx');
    const gone = { VMName: 'web01', ControllerType: 'SCSI', ControllerNumber: 0, ControllerLocation: 0 };
    expect((await stage.run('Remove-VMHardDiskDrive', gone)).errors[0]).toMatchObject({ code: 'ObjectNotFound' });
  });
});

describe('New-VHD and Get-VHD', () => {
  it('create a dynamic VHDX and show it as Hyper-V does', async () => {
    const path = join(stage.folder, 'a.vhdx');
    const { output, asked } = await stage.run(
      'New-VHD',
      { Path: [path], SizeBytes: String(2 ** 30) },
      { parameterSet: 'DynamicWithoutSource' },
    );
    expect(asked).toEqual([`New-VHD will create a new virtual hard disk with the path "${path}".`]);
    expect(output[0]).toMatchObject({
      $t: 'VirtualHardDisk',
      Path: path,
      VhdFormat: 'VHDX',
      VhdType: 'Dynamic',
      FileSize: '4194304',
      Size: '1073741824',
      BlockSize: 33554432,
      LogicalSectorSize: 512,
      PhysicalSectorSize: 4096,
      Attached: false,
    });
    expect((await stage.run('Get-VHD', { Path: ['a.vhdx'] }, { cwd: stage.folder })).output[0]).toMatchObject({ Path: path });
  });

  it("refuse in Hyper-V's words: a file that exists, a folder that does not, sizes that cannot be, formats that are not there yet", async () => {
    const make = async (path: string, bound: object = {}) =>
      (
        await stage.run(
          'New-VHD',
          { Path: [join(stage.folder, path)], SizeBytes: String(2 ** 30), ...bound },
          { parameterSet: 'DynamicWithoutSource' },
        )
      ).errors[0];
    await writeFile(join(stage.folder, 'there.vhdx'), 'mine');
    expect(await make('there.vhdx')).toMatchObject({
      errorId: 'OperationFailed',
      category: 'NotSpecified',
      message: `Failed to create the virtual hard disk.\nThe system failed to create '${join(stage.folder, 'there.vhdx')}': The file exists. (0x80070050).`,
    });
    expect(await readFile(join(stage.folder, 'there.vhdx'), 'utf8')).toBe('mine');
    expect(await make('no/folder.vhdx')).toMatchObject({ errorId: 'OperationFailed', message: expect.stringContaining('(0x80070003)') });
    for (const size of ['2000000000', '5000000', '0', String(65n * 2n ** 40n)])
      expect(await make('a.vhdx', { SizeBytes: size }), size).toMatchObject({ errorId: 'InvalidParameter', category: 'InvalidArgument' });
    expect(await make('a.vhdx', { BlockSizeBytes: 3 * 2 ** 20 })).toMatchObject({ errorId: 'InvalidParameter' });
    expect(await make('a.vhd')).toMatchObject({ code: 'NotImplemented' });
    expect(await make('a.vhdx', { Differencing: true })).toMatchObject({ code: 'NotImplemented' });
    expect(await make('a')).toMatchObject({ code: 'InvalidParameter' });
    expect(await readdir(stage.folder)).toEqual(['home', 'there.vhdx']);
  });

  it('say in the words of the system, and of which file, what it refuses', async () => {
    const path = join(stage.folder, 'loop', 'a.vhdx');
    await symlink('loop', join(stage.folder, 'loop'));
    const { errors } = await stage.run('New-VHD', { Path: [path], SizeBytes: String(2 ** 30) }, { parameterSet: 'DynamicWithoutSource' });
    expect(errors).toMatchObject([
      {
        code: 'StorageFailure',
        target: path,
        message: `Failed to create the virtual hard disk.\nThe system failed to create '${path}': too many symbolic links encountered.`,
      },
    ]);
  });

  it('say what is missing, and ask the worker about a live image', async () => {
    expect((await stage.run('Get-VHD', { Path: [join(stage.folder, 'no.vhdx')] })).errors[0]).toMatchObject({
      errorId: 'OperationFailed',
      category: 'NotSpecified',
      message: expect.stringMatching(/^Getting the mounted storage instance for the path '.*no\.vhdx' failed\./),
    });
    const vmId = await machine('web01', 'web01.vhdx');
    stage.states.set(vmId, 'Running');
    stage.calls.length = 0;
    expect((await stage.run('Get-VHD', { VMId: [vmId] })).output[0]).toMatchObject({ Attached: true });
    expect(stage.calls).toEqual(['worker inspectImage']);
  });

  it('Get-VHD does not open what is neither a file nor a block device: a pipe keeps its reader waiting', async () => {
    const pipe = join(stage.folder, 'pipe.img');
    execFileSync('mkfifo', [pipe]);
    expect((await stage.run('Get-VHD', { Path: [pipe] })).errors[0]).toMatchObject({
      code: 'InvalidParameter',
      message: `'${pipe}' is neither a file nor a block device.`,
    });
    expect(stage.calls).toEqual([]);
  });
});

describe('Set-VM, Remove-VM, Set-VMHost', () => {
  it('change what may be changed now and keep it', async () => {
    const vmId = await machine('web01');
    const set = (bound: object) => stage.run('Set-VM', { Name: ['web01'], ...bound });
    await set({ Notes: 'mine', ProcessorCount: '4', MemoryStartupBytes: String(2 ** 30), AutomaticStopAction: 'TurnOff' });
    expect(stage.services.registry.byId(vmId)!.configuration).toMatchObject({
      notes: 'mine',
      processorCount: 4,
      memoryStartupBytes: 2 ** 30,
      automaticStopAction: 'TurnOff',
    });
    stage.states.set(vmId, 'Running');
    expect((await set({ ProcessorCount: '2' })).errors[0]).toMatchObject({ code: 'InvalidState' });
    expect((await set({ ProcessorCount: '4', NewVMName: 'web02' })).errors).toEqual([]);
    expect((await stage.run('Set-VM', { Name: ['web02'], MemoryStartupBytes: '1000' })).errors[0]).toMatchObject({
      code: 'InvalidParameter',
    });
    expect((await stage.run('Set-VM', { Name: ['web02'], DynamicMemory: true })).errors[0]).toMatchObject({ code: 'NotImplemented' });
    expect((await stage.run('Remove-VM', { Name: ['web02'] })).errors[0]).toMatchObject({ code: 'InvalidState' });
    stage.states.set(vmId, 'Off');
    expect((await stage.run('Remove-VM', { Name: ['web02'] })).asked).toEqual(['Remove-VM will remove virtual machine "web02".']);
    expect(stage.services.registry.list()).toEqual([]);
  });

  it('removes nothing that nobody is sure of, and asks nobody with -Force', async () => {
    const vmId = await machine('web01');
    const remove = (bound: object, options: object) => stage.run('Remove-VM', { Name: ['web01'], ...bound }, options);
    expect((await remove({}, { sure: false })).sure).toEqual(['Are you sure you want to remove virtual machine "web01"?']);
    expect(await remove({ Force: true }, { yes: false })).toMatchObject({ sure: [], errors: [] }); // -WhatIf
    expect(stage.services.registry.byId(vmId)).toBeDefined();
    expect(await remove({ Force: true }, { sure: false })).toMatchObject({ sure: [], errors: [] });
    expect(stage.services.registry.list()).toEqual([]);
  });

  it('say which numbers of moves are possible, also under -WhatIf', async () => {
    for (const MaximumStorageMigrations of [0, 1025]) {
      const { errors, asked } = await stage.run('Set-VMHost', { MaximumStorageMigrations }, { yes: false });
      expect(errors[0]).toMatchObject({
        code: 'InvalidParameter',
        message: `${MaximumStorageMigrations} storage migrations at the same time are not possible; use 1 to 1024.`,
      });
      expect(asked).toEqual([]);
    }
  });

  it('return the host only with -Passthru', async () => {
    expect((await stage.run('Set-VMHost', { MaximumStorageMigrations: 4 })).output).toEqual([]);
    expect((await stage.run('Set-VMHost', { VirtualMachinePath: stage.folder, Passthru: true })).output[0]).toMatchObject({
      MaximumStorageMigrations: 4,
      VirtualMachinePath: stage.folder,
    });
    expect((await stage.run('Get-VMHost')).output[0]).toMatchObject({ $t: 'VMHost', MaximumStorageMigrations: 4 });
  });

  it.each(['VirtualHardDiskPath', 'VirtualMachinePath'])(
    '-%s that leads nowhere, or to no folder, is refused, also under -WhatIf',
    async (name) => {
      const before = stage.services.settings.current;
      const file = join(stage.folder, 'file');
      await writeFile(file, '');
      for (const [path, code, why] of [
        ['/nowhere/at/all', 'ObjectNotFound', 'no such file or directory'],
        [file, 'InvalidParameter', 'it is not a folder'],
        [join(file, 'in'), 'ObjectNotFound', 'not a directory'],
      ] as const) {
        const { errors, asked } = await stage.run('Set-VMHost', { [name]: path });
        expect(errors).toMatchObject([
          { code, target: path, message: expect.stringContaining(`-${name} '${path}' cannot be the default folder: ${why}`) },
        ]);
        expect(asked).toEqual([]);
      }
      expect(stage.services.settings.current).toBe(before);
    },
  );
});
