/**
 * A parameter that is accepted is acted upon. Every cmdlet's handler gets every parameter of each of its sets, and what it does not look at
 * is found here: act on it, or refuse it by its definition (notImplemented, inForce).
 */
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { placementIn, type Cmdlet, type Parameter } from '../../../cmdlets/define.js';
import { cmdlets, type CmdletName } from '../../../cmdlets/index.js';
import { hostMethods } from '../../../src/host/methods/index.js';
import type { CmdletContext, CmdletHandler, Migration } from '../../../src/host/services.js';
import { VmStorageError } from '../../../src/model/errors.js';
import { moveMethods } from '../../../src/migration/methods.js';
import type { WireValue } from '../../../src/protocol/messages.js';
import { allOver, reached, Steps, toFolder, vmId as movedVm, World } from '../migration/world.js';
import { makeStage, type Stage } from './stage.js';

/** What a parameter is read by, when it is not the handler. */
const readElsewhere: { readonly [parameter: string]: string } = {
  ComputerName: 'the gate before every handler (gate.ts)',
  AsJob: 'the module, which makes the job, and the command line, which refuses it (bind.ts)',
};
/** What says no more than the parameter set does, which handlers read. */
const saidByTheSet: { readonly [cmdlet: string]: readonly string[] } = {
  'New-VM': ['NoVHD'],
  'New-VHD': ['Dynamic'],
  'Import-VM': ['Register'],
};

/** By name where the kind is not enough for the handler to come as far as looking at everything. */
type Values = { readonly [name: string]: WireValue };

function valueFor(name: string, { type, validate }: Parameter, values: Values): WireValue {
  if (Object.hasOwn(values, name)) return values[name]!;
  const set = validate.flatMap((rule) => (typeof rule === 'object' && 'set' in rule ? rule.set : []))[0];
  const one = ((): WireValue => {
    switch (type.kind) {
      case 'bool':
      case 'switch':
        return true;
      case 'int16':
      case 'int32':
      case 'uint32':
        return Number(set ?? 1);
      case 'int64':
      case 'uint64':
        return set ?? '1073741824';
      case 'guid':
        return '00000000-0000-0000-0000-000000000000';
      case 'enum':
        return Object.keys(type.enumType!.values)[0]!;
      default:
        return 'text';
    }
  })();
  return type.array ? [one] : one;
}

let stage: Stage;
let world: World;
let settled: () => Promise<unknown>;
beforeEach(async () => {
  stage = await makeStage();
  world = new World();
  settled = () => Promise.resolve();
});
afterEach(async () => {
  world.worker.goOn();
  await settled();
  await stage.end();
  world.destroy();
});

const migration = { methods: {}, status: () => null } as unknown as Migration;

/** The names a handler looks at, over all parameter sets. A refusal is no harm: the next set may come further. */
async function looksAt(cmdlet: Cmdlet, handler: CmdletHandler, values: Values): Promise<Set<string>> {
  const seen = new Set<string>();
  const never = new AbortController().signal;
  const gone = AbortSignal.abort();
  for (const set of cmdlet.sets) {
    const accepted = Object.entries(cmdlet.parameters).filter(
      ([name, parameter]) => placementIn(parameter, set) !== undefined && !parameter.notImplemented && !(name in readElsewhere),
    );
    const bound = new Proxy(Object.fromEntries(accepted.map(([name, parameter]) => [name, valueFor(name, parameter, values)])), {
      get: (target, name, receiver) => {
        seen.add(String(name));
        return Reflect.get(target, name, receiver) as unknown;
      },
    });
    const told = async (): Promise<void> => {};
    const context = { output: told, error: told, verbose: told, warning: told, information: told, progress: told };
    const yes = (): Promise<boolean> => Promise.resolve(true);
    await handler({
      ...context,
      ...{
        cmdlet: cmdlet.name,
        bound,
        parameterSet: set,
        caller: () => Promise.resolve(null),
        cwd: stage.folder,
        signal: 'Watch' in cmdlet.parameters ? gone : never, // what watches goes on as long as its client is there
        stopRequested: never,
        shouldProcess: yes,
        shouldContinue: yes,
      },
    } as unknown as CmdletContext).catch((error: unknown) => {
      if (!(error instanceof VmStorageError)) throw error;
    });
  }
  return seen;
}

const all = Object.entries(cmdlets) as unknown as [CmdletName, Cmdlet][];
const accepted = ({ parameters }: Cmdlet): string[] =>
  Object.entries(parameters).flatMap(([name, { notImplemented }]) => (notImplemented || name in readElsewhere ? [] : [name]));

async function handlerOf(name: CmdletName): Promise<{ handler: CmdletHandler; values: Values }> {
  const disk = join(stage.folder, 'disk.img');
  await writeFile(disk, '');
  const own = join(stage.folder, 'own.img');
  await writeFile(own, '');
  await stage.run('New-VM', { Name: 'web01', Path: stage.folder, Generation: 2, VHDPath: own }); // its disk is at SCSI 0:0
  const id = stage.services.registry.find('web01')[0]!.configuration.id;
  const handler = hostMethods(stage.services, migration)[name];
  await mkdir(join(stage.folder, 'new'));
  const kernel = join(stage.folder, 'kernel');
  await writeFile(kernel, '');
  const machine: Values = { Name: ['web01'], VMName: ['web01'], VM: [{ $t: 'VirtualMachine', Id: id }] };
  const paths: Values = {
    Path: disk,
    VHDPath: disk,
    NewVHDPath: 'new.img',
    VirtualHardDiskPath: stage.folder,
    VirtualMachinePath: stage.folder,
    KernelPath: kernel,
    InitialRamdiskPath: kernel,
  };
  const places: Values = { ControllerType: 'SCSI', ControllerNumber: 0, ControllerLocation: 0, MaximumStorageMigrations: 2 };
  if (handler) {
    const special: { readonly [cmdlet: string]: Values } = {
      'Add-VMHardDiskDrive': { ControllerLocation: 1 },
      'New-VM': { Name: 'web02', Path: stage.folder, Generation: 2 },
      'New-VHD': { Path: ['new.vhdx'], BlockSizeBytes: 2 ** 20 },
      'Get-VHD': { Path: [disk] },
      'Get-VM': { Id: id },
      'Remove-VMHardDiskDrive': { VMName: 'web01', VMHardDiskDrive: [{ $t: 'HardDiskDrive', VMId: id, Id: 'none' }] },
      'Set-VM': { NewVMName: 'web01', MemoryStartupBytes: String(2 ** 30), ProcessorCount: '1', AutomaticStopAction: 'ShutDown' },
      'Stop-VM': { TurnOff: false },
    };
    if (name === 'Stop-VM') stage.states.set(id, 'Running');
    return { handler, values: { ...machine, ...paths, ...places, ...special[name] } };
  }
  const { moves, ports } = world.host();
  const vhds = [{ SourceFilePath: join(world.slow, 'a.img'), DestinationFilePath: join(world.fast, 'a.img') }];
  const moving: Values = {
    Vhds: vhds,
    DestinationStoragePath: world.fast,
    VirtualMachinePath: world.fast,
    SnapshotFilePath: world.fast,
    SmartPagingFilePath: world.fast,
  };
  const move = moveMethods(moves, ports)[name]!;
  const object = { $t: 'VirtualMachine', Id: movedVm };
  const isMove = name === 'Move-VMStorage';
  if (name === 'Resolve-VMStorageMove') return { handler: await undecided(), values: { Name: 'web01', Use: 'Source' } };
  if (!isMove) {
    world.worker.holdAt = 'verify'; // a move that goes on, to be shown and stopped
    void looksAt(
      { ...(cmdlets['Move-VMStorage'] as unknown as Cmdlet), sets: ['NameSingleDestination'] },
      moveMethods(moves, ports)['Move-VMStorage']!,
      { ...moving, Name: 'web01' },
    );
    await reached(() => moves.of(movedVm) !== undefined);
    settled = () => allOver(moves);
  }
  return { handler: move, values: { ...moving, Name: isMove ? 'web01' : ['web01'], VM: isMove ? object : [object] } };
}

/** Its handler, on a host that was killed in a move whose journal is lost. */
async function undecided(): Promise<CmdletHandler> {
  world.worker.holdAt = 'verify';
  const steps = new Steps();
  const first = world.host(steps);
  await first.moves.submit(first.ports.registry.byId(movedVm)!, toFolder(world.fast));
  await reached(() => world.worker.steps.includes('mirror'));
  await steps.kill();
  world.worker.listeners.clear();
  world.worker.pid = null;
  rmSync(world.journal(movedVm));
  const { moves, ports } = world.host();
  return moveMethods(moves, ports)['Resolve-VMStorageMove']!;
}

describe('every parameter that is accepted is looked at', () => {
  it.each(all)('by %s', async (name, cmdlet) => {
    const { handler, values } = await handlerOf(name);
    const seen = await looksAt(cmdlet, handler, values);
    const unseen = accepted(cmdlet).filter((parameter) => !seen.has(parameter) && !saidByTheSet[name]?.includes(parameter));
    expect(unseen, 'these do nothing').toEqual([]);
  });

  it('and the exceptions are needed', () => {
    const names = new Set(all.flatMap(([, { parameters }]) => Object.keys(parameters)));
    for (const name of Object.keys(readElsewhere)) expect(names).toContain(name);
    for (const [cmdlet, each] of Object.entries(saidByTheSet))
      for (const name of each) expect(accepted(cmdlets[cmdlet as CmdletName] as unknown as Cmdlet)).toContain(name);
  });
});

/** What is there to be shown: nobody has to act on it. */
const shownOnly: { readonly [field: string]: string } = {
  schema: 'of the file',
  notes: 'for people',
  createdAt: 'for people',
  generation: 'chooses firmware and controllers (hypervisor, hard-disk-drives)',
};
/** Keep, show and change them; to act on one is for the others. New-VM acts on the host's settings. */
const keepers = {
  machine: /^(registry\/schema|host\/publish|host\/methods\/(new-vm|set-vm)|model\/vm)\.ts$/,
  host: /^(registry\/schema|registry\/settings|host\/publish|host\/methods\/vm-host)\.ts$/,
};

describe('every setting that is kept is acted upon', () => {
  const folder = fileURLToPath(new URL('../../../src', import.meta.url));
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
  const codeBeside = (kept: RegExp): string =>
    files
      .filter((file) => !kept.test(file))
      .map((file) => readFileSync(join(folder, file), 'utf8').replaceAll(/\/\*[^]*?\*\/|\/\/[^\n]*/g, ''))
      .join('\n');
  const idle = (settings: object, code: string): string[] =>
    Object.keys(settings).filter((field) => !(field in shownOnly) && !new RegExp(`\\b${field}\\b`).test(code));

  it('of a machine and of the host, by code that does more than keep, show or change it', async () => {
    await stage.run('New-VM', { Name: 'web01', Path: stage.folder });
    const { configuration } = stage.services.registry.find('web01')[0]!;
    expect(idle({ ...configuration, automaticStartDelaySeconds: 0 }, codeBeside(keepers.machine)), 'these do nothing').toEqual([]);
    expect(idle(stage.services.settings.current, codeBeside(keepers.host)), 'these do nothing').toEqual([]);
  });
});
