/** The command line binds as PowerShell does. */
import { describe, expect, it } from 'vitest';
import { cmdlets, type Cmdlet } from '../../../cmdlets/index.js';
import { asksForHelp, bindWords } from '../../../src/cli/bind.js';

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
  const other = { SourceFilePath: '/c/e', DestinationFilePath: '/d/e' };
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
    [
      ['-Vhds', "@{SourceFilePath='/a/d';DestinationFilePath='/b/d'},@{SourceFilePath='/c/e';DestinationFilePath='/d/e'}"],
      [pair, other],
    ],
    [
      ['-Vhds', "@(@{SourceFilePath='/a/d'\nDestinationFilePath='/b/d'}\n@{SourceFilePath='/c/e';DestinationFilePath='/d/e'})"],
      [pair, other],
    ],
    [['-Vhds', '@{\'sourcefilepath\'=\'/a/d\';"DESTINATIONFILEPATH"="/b/d"}'], [pair]],
    [['-Vhds', '@{SourceFilePath=/a/d;DestinationFilePath=/b/d}'], [pair]],
    [
      ['-Vhds', "SourceFilePath='/a;b/d';DestinationFilePath=/b c/it's d"],
      [{ SourceFilePath: '/a;b/d', DestinationFilePath: "/b c/it's d" }],
    ],
    [['-Vhds', '@{SourceFilePath=7;Other=$null}'], [{ SourceFilePath: '/cwd/7', Other: null }]],
  ])('tables: %j', (words, tables) => {
    expect(bind(['Move-VMStorage', 'web01', ...words])).toEqual({
      parameterSet: 'NameMultipleDestinations',
      bound: { Name: 'web01', Vhds: tables },
      flags: {},
    });
  });

  it.each([
    [['Get-VM'], { parameterSet: 'Name', bound: {} }],
    // A machine may be called "a,b": the host knows whether one is.
    [
      ['Get-VM', 'web01,web02'],
      { parameterSet: 'Name', bound: { Name: [{ $t: 'NameOrList', text: 'web01,web02', list: ['web01', 'web02'] }] } },
    ],
    [['Get-VM', "@('a,b', 'c')"], { bound: { Name: [{ $t: 'NameOrList', text: "@('a,b', 'c')", list: ['a,b', 'c'] }] } }],
    [['Get-VM', 'my vm, 01'], { bound: { Name: [{ $t: 'NameOrList', text: 'my vm, 01', list: ['my vm', '01'] }] } }],
    [['Get-VM', "'it"], { bound: { Name: ["'it"] } }],
    [['Get-VM', '-Name', 'a', '-Name', 'b'], { bound: { Name: ['a', 'b'] } }],
    [['Get-VM', '-ComputerName', '.,localhost'], { bound: { ComputerName: ['.', 'localhost'] } }],
    [['Get-VHD', "@('/a,b.vhdx', 'c.vhdx')"], { bound: { Path: ['/a,b.vhdx', '/cwd/c.vhdx'] } }],
    [['Get-VM', '-Name:-h'], { bound: { Name: ['-h'] } }],
    [['Get-VM', '--', '-h'], { bound: { Name: ['-h'] } }],
    [['Remove-VM', 'x', '–WhatIf', '-cf:0'], { flags: { whatif: true, confirm: false } }],
    [['New-VHD', '/d.img', '1e3kb'], { bound: { SizeBytes: '1024000' } }],
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
    [['Move-VMStorage', 'x', 'D:VMs'], { bound: { DestinationStoragePath: 'D:VMs' } }],
    [['Move-VMStorage', 'x', 'vms\\x'], { bound: { DestinationStoragePath: 'vms\\x' } }],
    [['Move-VMStorage', 'x', '//srv/share'], { bound: { DestinationStoragePath: '//srv/share' } }],
    [['Move-VMStorage', 'x', 'rel/'], { bound: { DestinationStoragePath: '/cwd/rel/' } }],
  ])('%j', (line, want) => {
    expect(bind(line)).toMatchObject(want);
  });

  it.each([
    [['Move-VMStorage', 'web01'], 'needs -DestinationStoragePath'],
    [['Move-VMStorage', '-DestinationStoragePath', '/x'], 'needs -Name'],
    [['Move-VMStorage', 'web01', '/x', '-Vhds', 'a=b'], "Move-VMStorage has no place for '/x' beside -Vhds."],
    [['Move-VMStorage', '-DestinationStoragePath', '-Vhds', 'two'], '-DestinationStoragePath'],
    [
      ['Move-VMStorage', 'x', '-DestinationStoragePath', '/a', '-Vhds', 'two'],
      'cannot take -DestinationStoragePath and -Vhds at the same time.',
    ],
    [['Move-VMStorage', 'a', 'b', 'c', 'd'], "Move-VMStorage has no place for 'c' and 'd'."],
    [['Move-VMStorage', 'a', '/x', '-Nonsense', '1'], 'no parameter -Nonsense'],
    [['Move-VMStorage', 'a', '/x', '-S', '1'], 'may be'],
    [['Move-VMStorage', '-Name', 'a', '-Name', 'b', '/x'], 'given 2 times'],
    [['Move-VMStorage', '-Name'], 'needs a value'],
    [['Move-VMStorage', '-VM', 'web01', '/x'], 'only PowerShell has'],
    [['Move-VMStorage', 'web01', '/x', '-AsJob'], 'background of your shell'],
    [['Move-VMStorage', '', '/x'], 'must not be empty'],
    [['Move-VMStorage', 'a', '-Vhds', '{nonsense'], 'not JSON'],
    [['Move-VMStorage', 'a', '-Vhds', '[]'], 'must not be empty'],
    [['Move-VMStorage', 'a', '-Vhds', '@()'], 'must not be empty'],
    [['Move-VMStorage', 'a', '-Vhds', "@{SourceFilePath='/a';sourcefilepath='/b'}"], "the key 'sourcefilepath' is given twice"],
    [['Move-VMStorage', 'a', '-Vhds', 'SourceFilePath=/a;SOURCEFILEPATH=/b'], "the key 'SOURCEFILEPATH' is given twice"],
    [['Move-VMStorage', 'a', '-Vhds', '{"SourceFilePath":"/a","SourceFilePath":"/b"}'], 'a key is given twice'],
    [['Move-VMStorage', 'a', '-Vhds', '[{"SourceFilePath":"/a\\":","sourceFilePath":"/b"}]'], "the key 'sourceFilePath' is given twice"],
    [['Move-VMStorage', 'a', '-Vhds', '@{SourceFilePath=/a,/b}'], "the value of 'SourceFilePath' must be one value"],
    [['Move-VMStorage', 'a', '-Vhds', "SourceFilePath='/a'},@{b"], "'}' is not expected"],
    [['Move-VMStorage', 'a', '-Vhds', "'/a'"], 'does not begin with a key'],
    [['Move-VMStorage', 'a', '-Vhds', "('/a')"], 'each entry must be a table'],
    [['Move-VMStorage', 'a', '-DestinationStoragePath', '-WhatIf'], "'-WhatIf' looks like a parameter"],
    [['Get-VM', '-Name', '--'], 'needs a value'],
    [['Get-VM', 'x', '-no.such'], 'no parameter -no.such'],
    [['Get-VHD', "@('/a"], 'the closing quote is missing'],
    [['Remove-VM', 'x', '-WhatIf:perhaps'], 'takes $true or $false'],
    [['Remove-VM', 'x', '-WhatIf', '-WhatIf:$false'], 'given twice'],
    [['Stop-VM', 'x', '-Force', '-Force'], 'given 2 times'],
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
    [['web01', '-h'], true],
    [['web01', '-H'], true],
    [['-?'], true],
    [['--help'], true],
    [['-Name:-h'], false],
    [['web01', '--', '-h'], false],
    [['web01'], false],
  ])('%j asks for help: %s', (words, asks) => {
    expect(asksForHelp(words)).toBe(asks);
  });
});
