/** The registry on a real file system, with files that are damaged and writes that are cut short. */
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VmStorageError } from '../../../src/model/errors.js';
import type { VmConfiguration } from '../../../src/model/vm.js';
import { outsideLook } from '../../../src/os/outside-look.js';
import { heldFolders } from '../../../src/native/held-folders.js';
import { systemFiles, type Files } from '../../../src/os/files.js';
import type { HeldFolder, HeldFolders } from '../../../src/os/held-folders.js';
import { silentLog } from '../../../src/os/log.js';
import { instancePaths, type InstancePaths } from '../../../src/os/paths.js';
import { openRegistry } from '../../../src/registry/registry.js';
import { openSettings } from '../../../src/registry/settings.js';
import { vmConfiguration } from '../../support/vm-configuration.js';

let folder: string;
let paths: InstancePaths;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vmstorage-registry-'));
  paths = instancePaths({ VMSTORAGE_HOME: join(folder, 'home') });
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const ID = 'aaaaaaaa-0000-4000-8000-000000000001';
function machine(change: Partial<VmConfiguration> = {}): VmConfiguration {
  return vmConfiguration(join(folder, 'slow'), {
    id: ID,
    disks: [
      {
        id: 'bbbbbbbb-0000-4000-8000-000000000001',
        controllerType: 'SCSI',
        controllerNumber: 0,
        controllerLocation: 0,
        path: join(folder, 'web01.vhdx'),
        format: 'vhdx',
        passThrough: false,
      },
    ],
    ...change,
  });
}
const open = (files: Files = systemFiles, folders: HeldFolders = heldFolders) =>
  openRegistry(paths, files, folders, silentLog, outsideLook());

/** `steps` is asked before each call, but those that only look. */
function dying<T extends object>(whole: T, looks: readonly string[], step: () => void): T {
  return new Proxy(whole, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== 'function') return value;
      return (...args: never[]): unknown => {
        if (!looks.includes(String(name))) step();
        return (value as (...given: never[]) => unknown).apply(target, args);
      };
    },
  });
}

const LOOKS = ['entry', 'read', 'names', 'enter', 'close'];
const dyingFolders = (step: () => void): HeldFolders => ({
  hold: async (...args) => dying<HeldFolder>(await heldFolders.hold(...args), LOOKS, step),
  holdEntry: (...args) => heldFolders.holdEntry(...args),
});

describe('the registry', () => {
  it('gives back after a restart what was registered, by id and by name in any case', async () => {
    const added = await (await open()).add(machine(), null);
    expect(added.configurationFile).toBe(join(folder, 'slow', 'Virtual Machines', `${ID}.vmcx`));
    const again = await open();
    expect(again.find('WEB01')).toEqual([added]);
    expect(again.find(ID.toUpperCase())).toEqual([added]);
    expect(again.find('web02')).toEqual([]);
  });

  it('refuses to start without machines when its own file is damaged, names the rule, and leaves it alone', async () => {
    await mkdir(paths.stateFolder, { recursive: true });
    for (const [text, rule] of [
      ['{', /not JSON/],
      ['{"schema":3}', /made by a newer version/],
      ['{"schema":1,"machines":{"x":3}}', /machines\/x must be string/],
    ] as const) {
      await writeFile(paths.registryFile, text);
      await expect(open()).rejects.toThrow(rule);
      expect(await readFile(paths.registryFile, 'utf8')).toBe(text);
    }
  });

  it("reports a machine whose .vmcx is missing, damaged or another machine's, never writes it, and takes it back when it is right again", async () => {
    const { configurationFile } = await (await open()).add(machine(), null);
    const good = await readFile(configurationFile, 'utf8');
    const bad = [
      ['{"schema":1', /not JSON/],
      [good.replace('"generation": 2', '"generation": 3'), /generation/],
      [good.replace('"schema": 1', '"schema": 1, "extra": 1'), /./],
      [good.replace(ID, 'cccccccc-0000-4000-8000-000000000001'), /is the configuration of cccccccc/],
    ] as const;
    for (const [text, rule] of bad) {
      await writeFile(configurationFile, text);
      const registry = await open();
      expect(registry.list()).toEqual([]);
      expect(registry.faults()).toEqual([{ vmId: ID, configurationFile, reason: expect.stringMatching(rule), code: 'ImageCorrupt' }]);
      await expect(registry.update(machine({ notes: 'x' }))).rejects.toThrow(/not this machine's|already a file/);
      expect(await readFile(configurationFile, 'utf8')).toBe(text);
      await writeFile(configurationFile, good);
      await registry.recheck();
      expect(registry.faults()).toEqual([]);
      expect(registry.byId(ID)?.configuration.name).toBe('web01');
    }
  });

  it('never writes a configuration that it could not read back', async () => {
    const registry = await open();
    const disk = machine().disks[0]!;
    const twice = machine({ disks: [disk, { ...disk, id: 'bbbbbbbb-0000-4000-8000-000000000002', path: '/other.vhdx' }] });
    await expect(registry.add(twice, null)).rejects.toThrow(/two disks are at SCSI 0:0/);
    await expect(registry.add(machine({ disks: [{ ...disk, controllerType: 'IDE' }] }), null)).rejects.toThrow(/no IDE controller/);
    await expect(registry.add(machine({ memoryStartupBytes: 1 }), null)).rejects.toThrow(/memoryStartupBytes must be >= /);
    expect(registry.list()).toEqual([]);
  });

  it('moves a configuration by three steps, each of which may be repeated', async () => {
    const registry = await open();
    const before = (await registry.add(machine(), null)).configurationFile;
    const after = machine({ path: join(folder, 'fast') });
    const file = registry.configurationFileUnder(after.path, ID);
    for (let twice = 0; twice < 2; twice++) await registry.writeConfiguration(after, file);
    expect(registry.byId(ID)!.configurationFile).toBe(before);
    for (let twice = 0; twice < 2; twice++) await registry.repoint(ID, file);
    await expect(registry.deleteConfiguration(ID, file)).rejects.toThrow(/present configuration/);
    for (let twice = 0; twice < 2; twice++) await registry.deleteConfiguration(ID, before);
    expect((await open()).byId(ID)).toEqual({ configuration: after, configurationFile: file, owner: null });
    expect(await readdir(join(folder, 'slow', 'Virtual Machines'))).toEqual([]);
  });

  it("does not write over, or delete, a file at the new place that is not this machine's", async () => {
    const registry = await open();
    await registry.add(machine(), null);
    const file = registry.configurationFileUnder(join(folder, 'fast'), ID);
    await systemFiles.makeFolders(join(folder, 'fast', 'Virtual Machines'));
    await writeFile(file, 'a letter to somebody');
    await expect(registry.writeConfiguration(machine(), file)).rejects.toMatchObject({ code: 'AlreadyExists' });
    await expect(registry.deleteConfiguration(ID, file)).rejects.toMatchObject({ code: 'InvalidState' });
    expect(await readFile(file, 'utf8')).toBe('a letter to somebody');
  });

  it('killed between any two of its writes still knows the machine at one of its two places', async () => {
    const after = machine({ path: join(folder, 'fast') });
    for (let killAt = 0; killAt < 16; killAt++) {
      await rm(folder, { recursive: true, force: true });
      await mkdir(folder);
      const setUp = await open();
      const old = await setUp.add(machine(), null);
      const file = setUp.configurationFileUnder(after.path, ID);
      let steps = 0;
      const dies = (): void => {
        if (steps++ >= killAt) throw new Error('killed');
      };
      await (await open(dying(systemFiles, ['readText'], dies), dyingFolders(dies))).replaceConfiguration(after, file).catch(() => {});
      const found = (await open()).byId(ID);
      expect([old, { configuration: after, configurationFile: file, owner: null }]).toContainEqual(found);
      // And the same again, as recovery would, succeeds.
      await (await open()).replaceConfiguration(after, file);
      expect((await open()).byId(ID)).toEqual({ configuration: after, configurationFile: file, owner: null });
      expect(await readdir(join(folder, 'fast', 'Virtual Machines'))).toEqual([`${ID}.vmcx`]);
    }
  });

  it.each([
    ['the registry', 'registry.json'],
    ['a configuration', '.vmcx'],
  ])('says why %s could not be written, when its owner has no space left under a quota', async (_, name) => {
    const full = Object.assign(new Error('Unknown system error -122: Unknown system error -122, write'), {
      ...{ errno: -122, code: 'Unknown system error -122', syscall: 'write' },
    });
    const files: Files = {
      ...systemFiles,
      replace: (path, text) => (path.endsWith(name) ? Promise.reject(full) : systemFiles.replace(path, text)),
    };
    const refused = new VmStorageError('NoSpace', `cannot write '${name}': disk quota exceeded.`, { cause: full });
    const fullOne = (folder: HeldFolder): HeldFolder => ({
      ...folder,
      create: (leaf, text) => (name === '.vmcx' ? Promise.reject(refused) : folder.create(leaf, text)),
      enter: async (leaf) => fullOne(await folder.enter(leaf)),
    });
    const folders: HeldFolders = { ...heldFolders, hold: async (...args) => fullOne(await heldFolders.hold(...args)) };
    await expect((await open(files, folders)).add(machine(), null)).rejects.toMatchObject({
      code: 'NoSpace',
      target: expect.stringMatching(new RegExp(`${name.replace('.', '\\.')}$`)) as string,
      message: expect.stringMatching(/cannot be written.*: disk quota exceeded\.$/) as string,
    });
    expect((await open()).list()).toEqual([]);
  });

  it('finds the owner of a disk under any spelling', async () => {
    const registry = await open();
    await registry.add(machine(), null);
    expect(await registry.diskOwner(join(folder, 'other.vhdx'))).toBeNull();
    await writeFile(join(folder, 'web01.vhdx'), 'disk');
    await symlink(join(folder, 'web01.vhdx'), join(folder, 'alias.vhdx'));
    for (const spelling of ['web01.vhdx', './x/../web01.vhdx', 'alias.vhdx']) {
      expect(await registry.diskOwner(`${folder}/${spelling}`)).toMatchObject({ vmId: ID, vmName: 'web01' });
    }
  });

  it('does not register two machines whose run folders would be the same', async () => {
    const registry = await open();
    await registry.add(machine(), null);
    await expect(registry.add(machine({ id: 'aaaaaaaa-0000-4000-8000-000000000002' }), null)).rejects.toThrow(
      /begins with the same 8 digits/,
    );
  });

  it('forgets a removed machine and deletes its configuration, not its disks', async () => {
    const registry = await open();
    await writeFile(join(folder, 'web01.vhdx'), 'disk');
    await registry.add(machine(), null);
    await registry.remove(ID);
    expect((await open()).list()).toEqual([]);
    expect(await readdir(join(folder, 'slow', 'Virtual Machines'))).toEqual([]);
    expect(await readFile(join(folder, 'web01.vhdx'), 'utf8')).toBe('disk');
  });
});

describe('the settings', () => {
  it("start with Hyper-V's two moves at a time, are kept, and tell who asked", async () => {
    const settings = await openSettings(paths, systemFiles, silentLog);
    expect(settings.current.maximumStorageMigrations).toBe(2);
    const told: number[] = [];
    settings.subscribe((now) => told.push(now.maximumStorageMigrations));
    await settings.change({ maximumStorageMigrations: 4 });
    await expect(settings.change({ maximumStorageMigrations: 0 })).rejects.toThrow(/maximumStorageMigrations must be >= 1/);
    await expect(settings.change({ virtualMachinePath: 'relative' })).rejects.toThrow(/virtualMachinePath/);
    const refuse = () => Promise.reject(Object.assign(new Error('EROFS: read-only file system, open'), { code: 'EROFS' }));
    const readOnly = await openSettings(paths, { ...systemFiles, replace: refuse }, silentLog);
    await expect(readOnly.change({ maximumStorageMigrations: 8 })).rejects.toMatchObject({
      code: 'AccessDenied',
      target: paths.settingsFile,
    });
    expect(told).toEqual([4]);
    expect((await openSettings(paths, systemFiles, silentLog)).current.maximumStorageMigrations).toBe(4);
  });
});
