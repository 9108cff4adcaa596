/**
 * Every output type, and what people pipe besides, into every cmdlet: what arrives at the host. An object binds by its type or by a
 * property that means it, else PowerShell says that it binds to nothing. It never becomes its own text.
 */
import { describe, expect, it } from 'vitest';
import type { Cmdlet } from '../../cmdlets/define.js';
import { cmdlets } from '../../cmdlets/index.js';
import { drive, host, move, vhd, vm, vmId } from '../support/objects.js';
import { pwshOrUndefined } from '../support/pwsh.js';
import { requires } from '../support/requires.js';
import { scriptedShell } from '../support/scripted-shell.js';

const moveId = String(move().MoveId);
const driveKeys = ['VMName', 'VMId', 'Id', 'ControllerType', 'ControllerNumber', 'ControllerLocation', 'Path', 'ComputerName'];
const pick = (object: { [name: string]: unknown }, keys: readonly string[]) =>
  Object.fromEntries(['$t', ...keys].map((key) => [key, object[key]]));
const machine = pick(vm(), ['Id', 'Name', 'ComputerName']);
const machines = { VM: [machine] };

/** What each is made by, in the words of a person at the prompt. */
const sources = {
  VirtualMachine: 'Get-VM it',
  HardDiskDrive: 'Get-VMHardDiskDrive it',
  VirtualHardDisk: 'Get-VHD /it',
  VMHost: 'Get-VMHost it',
  VMStorageMove: 'Get-VMStorageMove it',
  text: "'a1'",
  array: ",@('a1', 'b1')",
  guid: `[guid]'${vmId}'`,
  bag: "[pscustomobject]@{ Other = 'a1' }",
  table: "@{ Name = 'a1' }",
  'VirtualMachine of Import-Clixml':
    '[Management.Automation.PSSerializer]::Deserialize([Management.Automation.PSSerializer]::Serialize((Get-VM it)))',
  'MoveId alone': 'Get-VMStorageMove it | Select-Object MoveId',
  'VMId alone': 'Get-VM it | Select-Object VMId',
} as const;
type Source = keyof typeof sources;

const drives = { VMHardDiskDrive: [pick(drive(), driveKeys)] };
const names = { text: { Name: ['a1'] }, array: { Name: ['a1', 'b1'] }, guid: { Name: [vmId] } };
const byMachine = { ...names, VirtualMachine: machines, 'VirtualMachine of Import-Clixml': machines };
const vmNames = {
  text: { VMName: ['a1'] },
  array: { VMName: ['a1', 'b1'] },
  guid: { VMName: [vmId] },
  VirtualMachine: machines,
  'VirtualMachine of Import-Clixml': machines,
};
const one = { text: { Name: 'a1' }, guid: { Name: vmId } };
const moves = { VMStorageMove: { MoveId: [moveId] }, 'MoveId alone': { MoveId: [moveId] } };

/** What arrives; of what is not listed nothing does. The other parameters of the line are left out. */
const arrives: { readonly [line: string]: { readonly [source in Source]?: object } } = {
  'Get-VM': { ...names, guid: { Id: vmId }, VirtualMachine: { Id: vmId }, 'VirtualMachine of Import-Clixml': { Id: vmId } },
  'Start-VM': byMachine,
  'Stop-VM': byMachine,
  'Remove-VM': byMachine,
  'Set-VM': byMachine,
  'Move-VMStorage -DestinationStoragePath /x': {
    ...one,
    VirtualMachine: { VM: machine },
    'VirtualMachine of Import-Clixml': { VM: machine },
  },
  'Get-VMHardDiskDrive': vmNames,
  'Add-VMHardDiskDrive -Path /x.img': vmNames,
  'Remove-VMHardDiskDrive': { HardDiskDrive: drives },
  'Get-VHD': {
    text: { Path: ['/tmp/a1'] },
    array: { Path: ['/tmp/a1', '/tmp/b1'] },
    guid: { VMId: [vmId] },
    HardDiskDrive: { Path: ['/srv/slow/web01.vhdx'] },
    VirtualHardDisk: { Path: ['/srv/slow/web01.vhdx'] },
    VMStorageMove: { VMId: [vmId] },
    'VMId alone': { VMId: [vmId] },
    // As in Hyper-V, whose machines have a Path too: it is their folder, and the host says what to write instead.
    VirtualMachine: { Path: ['/srv/slow'] },
    'VirtualMachine of Import-Clixml': { Path: ['/srv/slow'] },
  },
  // Path and Name come from properties of that name, as in Hyper-V: what is there already is refused by the host.
  'New-VHD -SizeBytes 1GB': {
    text: { Path: ['/tmp/a1'] },
    array: { Path: ['/tmp/a1', '/tmp/b1'] },
    guid: { Path: [`/tmp/${vmId}`] },
    VirtualMachine: { Path: ['/srv/slow'] },
    'VirtualMachine of Import-Clixml': { Path: ['/srv/slow'] },
    HardDiskDrive: { Path: ['/srv/slow/web01.vhdx'] },
    VirtualHardDisk: { Path: ['/srv/slow/web01.vhdx'] },
  },
  'New-VM': {
    ...one,
    VirtualMachine: { Name: 'web01' },
    'VirtualMachine of Import-Clixml': { Name: 'web01' },
    HardDiskDrive: { Name: String(drive().Name) },
    VMHost: { Name: 'node1' },
    VMStorageMove: { Name: 'web01' },
  },
  'Get-VMHost': { text: { ComputerName: ['a1'] }, array: { ComputerName: ['a1', 'b1'] }, guid: { ComputerName: [vmId] } },
  'Set-VMHost': {},
  'Get-VMStorageMove': { ...byMachine, ...moves },
  'Stop-VMStorageMove': { ...byMachine, ...moves },
  // One machine, named: what is decided about its disks is not done to whatever a pipeline brings.
  'Resolve-VMStorageMove -Name web01 -Use Source': {},
  // A file that somebody vouches for by its name.
  'Import-VM -Path /x.vmcx': {},
};

describe.skipIf(!requires('PowerShell 7.6', await pwshOrUndefined()))('piped', () => {
  const isForSource = ({ bound }: { bound: { readonly [name: string]: unknown } }): boolean => JSON.stringify(bound).includes('it"');
  const shell = scriptedShell({
    'Get-VM': (call) => (isForSource(call) ? call.output(vm()) : undefined),
    'Get-VMHardDiskDrive': (call) => (isForSource(call) ? call.output(drive()) : undefined),
    'Get-VHD': (call) => (isForSource(call) ? call.output(vhd()) : undefined),
    'Get-VMHost': (call) => (isForSource(call) ? call.output(host()) : undefined),
    'Get-VMStorageMove': (call) => (isForSource(call) ? call.output(move()) : undefined),
  });

  it('into every cmdlet there is', () => {
    expect(
      Object.keys(arrives)
        .map((line) => line.split(' ')[0])
        .sort(),
    ).toEqual(Object.keys(cmdlets).sort());
  });

  it.each(Object.keys(arrives).flatMap((line) => Object.keys(sources).map((source) => [source as Source, line] as const)))(
    '%s | %s',
    async (source, line) => {
      const [name = '', ...rest] = line.split(' ');
      const cmdlet = (cmdlets as unknown as { readonly [name: string]: Cmdlet })[name]!;
      const { errors } = await shell.session.invoke(
        `Set-Location /tmp; $o = ${sources[source]}; ${source === 'array' ? sources.array : '$o'} | ${line}`,
      );
      const record = shell.host.heard.filter((heard) => !isForSource(heard)).find((heard) => heard.cmdlet === name);
      const wanted = arrives[line]![source];
      expect(errors.map(({ id }) => id)).toEqual(
        wanted === undefined ? [`InputObjectNotBound,${cmdlet.namespace}.${cmdlet.className}`] : [],
      );
      if (wanted === undefined) {
        expect(record).toBeUndefined();
        return;
      }
      const extra = new Set(rest.filter((word) => word.startsWith('-')).map((word) => word.slice(1)));
      expect(Object.fromEntries(Object.entries(record?.bound ?? {}).filter(([key]) => !extra.has(key)))).toEqual(wanted);
    },
  );

  it.each([
    ['Stop-VM -Name (Get-VM it)', 'VirtualMachine'],
    ['Get-VMHardDiskDrive -VMName (Get-VM it)', 'VirtualMachine'],
    ['Move-VMStorage -Name (Get-VMStorageMove it) -DestinationStoragePath /x', 'VMStorageMove'],
    ['Move-VMStorage it2 -DestinationStoragePath (Get-VHD /it)', 'VirtualHardDisk'],
    ["New-VHD -Path @{ Name = 'x' } -SizeBytes 1GB", 'Hashtable'],
    ['Set-VM it2 -Notes (Get-VM it)', 'VirtualMachine'],
  ])('%s: an object is no text when it is named either', async (script, type) => {
    const { errors } = await shell.session.invoke(script);
    expect(errors.map(({ id }) => id.split(',')[0])).toEqual(['ParameterArgumentTransformationError']);
    expect(errors[0]!.message).toContain(`An object of the type ${type} is not text.`);
    expect(shell.host.heard.filter((heard) => !isForSource(heard))).toEqual([]);
  });

  it('a running move is stopped by its own identifier', async () => {
    const { errors } = await shell.session.invoke('Get-VMStorageMove it | Stop-VMStorageMove');
    expect(errors).toEqual([]);
    expect(shell.host.heard.at(-1)).toMatchObject({ cmdlet: 'Stop-VMStorageMove', parameterSet: 'MoveId', bound: { MoveId: [moveId] } });
  });
});
