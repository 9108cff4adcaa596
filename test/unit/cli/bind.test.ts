/** The command line binds as PowerShell does. */
import { describe, expect, it } from 'vitest';
import { cmdlets, type Cmdlet } from '../../../cmdlets/index.js';
import { bindWords } from '../../../src/cli/bind.js';
import { parseInteger } from '../../../src/cli/values.js';

const all = cmdlets as unknown as { readonly [name: string]: Cmdlet };
const bind = (line: readonly string[]) => bindWords(line.slice(1), all[line[0]!]!, '/cwd');

describe('binding', () => {
  const single = { parameterSet: 'NameSingleDestination', bound: { Name: 'web01', DestinationStoragePath: '/x' } };
  it.each([
    [['Move-VMStorage', '-VMName', 'web01', '-DestinationStoragePath', '/x']],
    [['Move-VMStorage', '-name', 'web01', '-DESTINATIONstoragepath', '/x']],
    [['Move-VMStorage', 'web01', '/x']],
    [['Move-VMStorage', '/x', '-Name', 'web01']],
    [['Move-VMStorage', '-Name:web01', '-Dest', '/x']],
    [['Move-VMStorage', '--VMName=web01', '--DestinationStoragePath=/x']],
    [['Move-VMStorage', '-VMName', 'web01', '--', '/x']],
  ])('%j', (line) => {
    expect(bind(line)).toMatchObject(single);
  });

  const pair = { SourceFilePath: '/a/d', DestinationFilePath: '/b/d' };
  it.each([
    [['-Vhds', '{"SourceFilePath":"/a/d","destinationfilepath":"/b/d"}'], [pair]],
    [
      ['-Vhds', '[{"SourceFilePath":"/a/d","DestinationFilePath":"/b/d"},{"SourceFilePath":"/a/d","DestinationFilePath":"/b/d"}]'],
      [pair, pair],
    ],
    [['-Vhds', 'SourceFilePath=/a/d;DestinationFilePath=/b/d'], [pair]],
    [['-Vhds', '@{SourceFilePath=\'/a/d\'; DestinationFilePath="/b/d"}'], [pair]],
    [
      ['-Vhds', 'SourceFilePath=/a/d;DestinationFilePath=/b/d', '-Vhds', 'SourceFilePath=../a/d;DestinationFilePath=/b/d'],
      [pair, pair],
    ],
    [['-Vhds', 'SourceFilePath=/a/d'], [{ SourceFilePath: '/a/d' }]],
  ])('tables: %j', (words, tables) => {
    expect(bind(['Move-VMStorage', 'web01', ...words])).toEqual({
      parameterSet: 'NameMultipleDestinations',
      bound: { Name: 'web01', Vhds: tables },
      flags: {},
    });
  });

  it.each([
    [['Get-VM'], { parameterSet: 'Name', bound: {} }],
    [['Get-VM', 'web01,web02'], { parameterSet: 'Name', bound: { Name: ['web01', 'web02'] } }],
    [
      ['Get-VM', '-Id', '5381F80D-2F0C-4F0E-9C3B-0D8F6F1B2A3C'],
      { parameterSet: 'Id', bound: { Id: '5381f80d-2f0c-4f0e-9c3b-0d8f6f1b2a3c' } },
    ],
    [
      ['New-VHD', 'd,1.vhdx', '40GB'],
      { parameterSet: 'DynamicWithoutSource', bound: { Path: ['/cwd/d,1.vhdx'], SizeBytes: '42949672960' } },
    ],
    [
      ['New-VM', 'x', '-NewVHDPath', 'new.vhdx', '-NewVHDSizeBytes', '1GB'],
      { parameterSet: 'New VHD', bound: { Name: 'x', NewVHDPath: 'new.vhdx', NewVHDSizeBytes: '1073741824' } },
    ],
    [
      ['New-VM', 'x', '-NewVHDPath', './new.vhdx', '-NewVHDSizeBytes', '1GB'],
      { parameterSet: 'New VHD', bound: { Name: 'x', NewVHDPath: '/cwd/new.vhdx', NewVHDSizeBytes: '1073741824' } },
    ],
    [
      ['New-VHD', '-Path', '/d.img', '-SizeBytes', '1GB', '-Fixed'],
      { parameterSet: 'FixedWithoutSource', bound: { Path: ['/d.img'], SizeBytes: '1073741824', Fixed: true } },
    ],
    [
      ['New-VM', 'x', '512MB', '2', '-VHDPath', '/d.vhdx'],
      { parameterSet: 'Existing VHD', bound: { Name: 'x', MemoryStartupBytes: '536870912', Generation: 2, VHDPath: '/d.vhdx' } },
    ],
    [['Stop-VM', 'x', '-TurnOff:$false', '-Force'], { parameterSet: 'Name', bound: { Name: ['x'], TurnOff: false, Force: true } }],
    [['Set-VM', 'x', '-AutomaticStopAction', 'shutdown'], { bound: { AutomaticStopAction: 'ShutDown' } }],
    [['Set-VMHost', '-UseAnyNetworkForMigration', '$true'], { bound: { UseAnyNetworkForMigration: true } }],
    [['Get-VM', 'x', '-Verbose', '--json'], { flags: { verbose: true, json: true } }],
    [['Remove-VM', 'x', '-WhatIf', '-Confirm:$false'], { flags: { whatif: true, confirm: false } }],
    [['Move-VMStorage', 'x', 'D:\\VMs'], { bound: { DestinationStoragePath: 'D:\\VMs' } }],
    [['Move-VMStorage', 'x', '//srv/share'], { bound: { DestinationStoragePath: '//srv/share' } }],
    [['Move-VMStorage', 'x', 'rel/'], { bound: { DestinationStoragePath: '/cwd/rel/' } }],
  ])('%j', (line, want) => {
    expect(bind(line)).toMatchObject(want);
  });

  it.each([
    [['Move-VMStorage', 'web01'], 'needs -DestinationStoragePath'],
    [['Move-VMStorage', '-DestinationStoragePath', '/x'], 'needs -Name'],
    [['Move-VMStorage', 'web01', '/x', '-Vhds', 'a=b'], 'cannot take'],
    [['Move-VMStorage', 'a', 'b', 'c'], 'cannot take'],
    [['Move-VMStorage', 'a', '/x', '-Nonsense', '1'], 'no parameter -Nonsense'],
    [['Move-VMStorage', 'a', '/x', '-S', '1'], 'may be'],
    [['Move-VMStorage', '-Name', 'a', '-Name', 'b', '/x'], 'given 2 times'],
    [['Move-VMStorage', '-Name'], 'needs a value'],
    [['Move-VMStorage', '-VM', 'web01', '/x'], 'only PowerShell has'],
    [['Move-VMStorage', 'web01', '/x', '-AsJob'], 'background of your shell'],
    [['Move-VMStorage', '', '/x'], 'must not be empty'],
    [['Move-VMStorage', 'a', '-Vhds', '{nonsense'], 'not JSON'],
    [['Move-VMStorage', 'a', '-Vhds', '[]'], 'must not be empty'],
    [['New-VHD', '/d', '1.3'], 'whole number'],
    [['New-VHD', '/d', '18446744073709551616'], 'must be between'],
    [['New-VHD', '/d', '1GB', '-LogicalSectorSizeBytes', '1024'], 'one of 512, 4096'],
    [['New-VM', 'x', '-Generation', '3'], 'one of 1, 2'],
    [['Set-VM', 'x', '-AutomaticStopAction', 'Explode'], 'one of TurnOff'],
    [['Get-VM', '-Id', 'web01'], 'identifier'],
    [['Get-VM', '-WhatIf'], 'no parameter -WhatIf'],
    [['Move-VMStorage', 'web01', ' '], '-DestinationStoragePath must be a path; it is blank'],
  ])('%j is refused: %s', (line, why) => {
    expect(() => bind(line)).toThrow(why);
  });

  it.each([
    ['1.5GB', 1610612736n],
    ['0x10', 16n],
    ['-3', -3n],
    ['1e3', undefined],
    ['', undefined],
    ['1.1', undefined],
    ['9'.repeat(40), undefined],
    ['1KB', 1024n],
  ])('%s is %s', (text, value) => {
    expect(parseInteger(text)).toBe(value);
  });
});
