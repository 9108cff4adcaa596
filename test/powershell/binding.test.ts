/** What PowerShell's binder makes of our signatures, and what then arrives at the host. */
import { describe, expect, it } from 'vitest';
import { placementIn, type Cmdlet } from '../../cmdlets/define.js';
import { cmdlets } from '../../cmdlets/index.js';
import { drive, vm, vmId } from '../support/objects.js';
import { pwshOrUndefined } from '../support/pwsh.js';
import { requires } from '../support/requires.js';
import { scriptedShell } from '../support/scripted-shell.js';

describe.skipIf(!requires('PowerShell 7.6', await pwshOrUndefined()))('binding', () => {
  const shell = scriptedShell({
    'Get-VM': async (call) => {
      const names = (call.bound['Name'] as string[] | undefined) ?? ['web01', 'web02', 'web03'];
      for (const name of names) await call.output(vm({ Name: name }));
    },
    'Get-VMHardDiskDrive': (call) => call.output(drive()),
  });

  /** Runs the script and gives back the last record heard of Move-VMStorage (or of `cmdlet`). */
  async function moved(script: string, cmdlet = 'Move-VMStorage') {
    const result = await shell.session.invoke(script);
    return { result, record: shell.host.heard.findLast((one) => one.cmdlet === cmdlet) };
  }

  it.each([
    ['Get-VM web01 | Move-VMStorage -DestinationStoragePath /x', 'VMSingleDestination'],
    ['Move-VMStorage (Get-VM web01) /x', 'VMSingleDestination'],
    ['Move-VMStorage -VM (Get-VM web01) -DestinationStoragePath /x', 'VMSingleDestination'],
    ["'web01' | Move-VMStorage -DestinationStoragePath /x", 'NameSingleDestination'],
    ['Move-VMStorage web01 /x', 'NameSingleDestination'],
    ['Move-VMStorage -VMName web01 -DestinationStoragePath /x', 'NameSingleDestination'],
    ['Move-VMStorage -Name web01 -Dest /x', 'NameSingleDestination'],
    ['$PSDefaultParameterValues = @{ "Move-VMStorage:DestinationStoragePath" = "/x" }; Move-VMStorage web01', 'NameSingleDestination'],
    ['$p = @{ Name = "web01"; DestinationStoragePath = "/x" }; Move-VMStorage @p', 'NameSingleDestination'],
  ])('%s binds in the set %s', async (script, set) => {
    const { result, record } = await moved(script);
    expect(result.errors).toEqual([]);
    expect(record?.parameterSet).toBe(set);
    expect(record?.bound).toEqual({
      DestinationStoragePath: '/x',
      ...(set.startsWith('VM') ? { VM: { $t: 'VirtualMachine', Id: vmId, Name: 'web01', ComputerName: 'node1' } } : { Name: 'web01' }),
    });
  });

  const pair = { SourceFilePath: '/a/d.vhdx', DestinationFilePath: '/b/d.vhdx' };
  it.each([
    ['Move-VMStorage web01 -Vhds @{ SourceFilePath = "/a/d.vhdx"; DestinationFilePath = "/b/d.vhdx" }', [pair]],
    ['Move-VMStorage web01 -Vhds @{ sourcefilepath = "/a/d.vhdx"; DESTINATIONFILEPATH = "/b/d.vhdx" }', [pair]],
    ['Move-VMStorage web01 -Vhds ([ordered]@{ SourceFilePath = "/a/d.vhdx"; DestinationFilePath = "/b/d.vhdx" })', [pair]],
    ['Move-VMStorage web01 -Vhds @{ SourceFilePath = (Join-Path /a d.vhdx); DestinationFilePath = (Write-Output /b/d.vhdx) }', [pair]],
    [
      '$h = New-Object Hashtable; $h.Add("SourceFilePath", "/a/d.vhdx"); $h.Add("DestinationFilePath", "/b/d.vhdx"); Move-VMStorage web01 -Vhds $h, $h',
      [pair, pair],
    ],
    ['Move-VMStorage web01 -Vhds @{ SourceFilePath = "/a/d.vhdx" }', [{ SourceFilePath: '/a/d.vhdx' }]],
    [
      'Move-VMStorage web01 -Vhds @{ SourceFilePath = [IO.FileInfo]"/a/d.vhdx"; Other = 3; Nothing = $null }',
      [{ SourceFilePath: '/a/d.vhdx', Other: '3', Nothing: null }],
    ],
    [
      'Move-VMStorage web01 -Vhds @{ SourceFilePath = "/a/d.vhdx", "/a/e.vhdx"; DestinationFilePath = " " }',
      [{ SourceFilePath: null, DestinationFilePath: '' }],
    ],
  ])('%s sends the tables', async (script, tables) => {
    const { result, record } = await moved(script);
    expect(result.errors).toEqual([]);
    expect(record?.parameterSet).toBe('NameMultipleDestinations');
    expect(record?.bound['Vhds']).toEqual(tables);
  });

  it.each([
    ['Move-VMStorage web01 -Vhds @()', 'ParameterArgumentValidationError,Microsoft.HyperV.PowerShell.Commands.MoveVMStorage'],
    ['Move-VMStorage -VM (Get-VM) -DestinationStoragePath /x', 'CannotConvertArgument,Microsoft.HyperV.PowerShell.Commands.MoveVMStorage'],
    ['Get-VM web01 | Move-VMStorage /x', 'MissingMandatoryParameter,Microsoft.HyperV.PowerShell.Commands.MoveVMStorage'],
    ['Get-VM -Name $null', 'ParameterArgumentValidationError,Microsoft.HyperV.PowerShell.Commands.GetVM'],
    [
      'Move-VMStorage web01 -DestinationStoragePath /x -Vhds @{}',
      'AmbiguousParameterSet,Microsoft.HyperV.PowerShell.Commands.MoveVMStorage',
    ],
    ['New-VM x -Generation 3', 'ParameterArgumentValidationError,Microsoft.HyperV.PowerShell.Commands.NewVM'],
    ['New-VHD /x 4GB -LogicalSectorSizeBytes 1024', 'ParameterArgumentValidationError,Microsoft.Vhd.PowerShell.Cmdlets.NewVhd'],
    ["[Microsoft.HyperV.PowerShell.VirtualMachine]'web01'", 'InvalidCastFromStringToType'],
  ])('%s is refused by the binder with %s, and nothing is asked', async (script, id) => {
    const { result, record } = await moved(script);
    expect(result.errors.map((error) => error.id.replace(/^ConvertToFinalInvalidCastException$/, 'InvalidCastFromStringToType'))).toEqual([
      id,
    ]);
    expect(record).toBeUndefined();
  });

  it('Get-VM piped into Get-VM binds the identifier', async () => {
    const { record } = await moved('Get-VM web01 | Get-VM', 'Get-VM');
    expect(record).toMatchObject({ parameterSet: 'Id', bound: { Id: vmId } });
  });

  it('a name piped into Get-VM binds the name', async () => {
    const { record } = await moved("'web01', 'web02' | Get-VM", 'Get-VM');
    expect(record).toMatchObject({ parameterSet: 'Name', bound: { Name: ['web02'] } });
  });

  it('an identifier piped into Get-VM binds the identifier', async () => {
    const { record } = await moved(`[guid]'${vmId}' | Get-VM`, 'Get-VM');
    expect(record).toMatchObject({ parameterSet: 'Id', bound: { Id: vmId } });
  });

  it('a drive piped into Get-VHD binds its path, although it has VMId and DiskNumber too', async () => {
    const { record } = await moved('Get-VMHardDiskDrive web01 | Get-VHD', 'Get-VHD');
    expect(record).toMatchObject({ parameterSet: 'Path', bound: { Path: ['/srv/slow/web01.vhdx'] } });
  });

  it('a VM with only its VMId piped into Get-VHD binds the identifier', async () => {
    const { record } = await moved('Get-VM web01 | Select-Object VMId | Get-VHD', 'Get-VHD');
    expect(record).toMatchObject({ parameterSet: 'VMId', bound: { VMId: [vmId] } });
  });

  it('a drive piped into Remove-VMHardDiskDrive sends what names it', async () => {
    const { record } = await moved('Get-VMHardDiskDrive web01 | Remove-VMHardDiskDrive', 'Remove-VMHardDiskDrive');
    expect(record?.bound['VMHardDiskDrive']).toEqual([
      {
        $t: 'HardDiskDrive',
        VMName: 'web01',
        VMId: vmId,
        Id: `Microsoft:${vmId}\\0`,
        ControllerType: 'SCSI',
        ControllerNumber: 0,
        ControllerLocation: 0,
        Path: '/srv/slow/web01.vhdx',
        ComputerName: 'node1',
      },
    ]);
  });

  it('three piped VMs are three records of one invocation', async () => {
    await shell.session.invoke('Get-VM | Stop-VM -TurnOff');
    const records = shell.host.heard.filter((one) => one.cmdlet === 'Stop-VM');
    expect(records.map((one) => (one.bound['VM'] as { Name: string }[])[0]!.Name)).toEqual(['web01', 'web02', 'web03']);
    expect(records.every((one) => one.bound['TurnOff'] === true)).toBe(true);
    expect(shell.host.connections).toBe(2);
  });

  it('no record means no connection', async () => {
    await shell.session.invoke('@() | Stop-VM');
    expect(shell.host.connections).toBe(0);
  });

  it('64-bit integers travel as decimal strings, to the last one', async () => {
    await shell.session.invoke(
      'New-VHD -Path /x.vhdx -SizeBytes 18446744073709551615 -BlockSizeBytes 32MB; Set-VM web01 -MemoryStartupBytes 9223372036854775807 -Notes ""',
    );
    expect(shell.host.heard[0]?.bound).toEqual({ Path: ['/x.vhdx'], SizeBytes: '18446744073709551615', BlockSizeBytes: 33554432 });
    expect(shell.host.heard[1]?.bound).toEqual({ Name: ['web01'], MemoryStartupBytes: '9223372036854775807', Notes: '' });
  });

  it('a switch given as false travels as false, and one not given not at all', async () => {
    await shell.session.invoke('Stop-VM web01 -TurnOff:$false');
    expect(shell.host.heard[0]?.bound).toEqual({ Name: ['web01'], TurnOff: false });
  });

  it('an enum travels by name', async () => {
    await shell.session.invoke('Set-VM web01 -AutomaticStopAction 2; Get-VMHardDiskDrive web01 -ControllerType scsi -ControllerNumber 0');
    expect(shell.host.heard[0]?.bound['AutomaticStopAction']).toBe('TurnOff');
    expect(shell.host.heard[1]?.bound).toEqual({ VMName: ['web01'], ControllerType: 'SCSI', ControllerNumber: 0 });
  });

  it('the secret of a credential stays in the shell', async () => {
    await shell.session.invoke(
      "$c = [pscredential]::new('me', (ConvertTo-SecureString 'hush' -AsPlainText -Force)); Get-VM web01 -Credential $c",
    );
    expect(shell.host.heard[0]?.bound['Credential']).toEqual([{ user: 'me' }]);
    expect(JSON.stringify(shell.host.messages)).not.toContain('hush');
  });

  it.each([
    ['/abs/x', '/abs/x'],
    ['/abs/x/', '/abs/x/'],
    ['rel', '/tmp/rel'],
    ['./rel', '/tmp/rel'],
    ['../rel', '/rel'],
    ['/a//b/../c', '/a/c'],
    ['/a/[x]*', '/a/[x]*'],
    ['D:\\VMs\\x', 'D:\\VMs\\x'],
    ['d:/VMs', 'd:/VMs'],
    ['D:', 'D:'],
    ['D:x', 'D:x'],
    ['\\\\srv\\share\\x', '\\\\srv\\share\\x'],
    ['//srv/share/x', '//srv/share/x'],
  ])('the path %s is sent as %s', async (text, sent) => {
    const { errors } = await shell.session.invoke('param($path) Set-Location /tmp; Move-VMStorage web01 -DestinationStoragePath $path', {
      path: text,
    });
    expect(errors).toEqual([]);
    expect(shell.host.heard[0]?.bound['DestinationStoragePath']).toBe(sent);
  });

  it.each([
    ['new.vhdx', 'new.vhdx'],
    ['[new] x.vhdx', '[new] x.vhdx'],
    ['./new.vhdx', '/tmp/new.vhdx'],
    ['.\\new.vhdx', '/tmp/new.vhdx'],
    ['sub/new.vhdx', '/tmp/sub/new.vhdx'],
  ])('the new disk %s is sent as %s: the host knows the folder of a file name', async (text, sent) => {
    const { errors } = await shell.session.invoke('param($path) Set-Location /tmp; New-VM x -NewVHDPath $path -NewVHDSizeBytes 1GB', {
      path: text,
    });
    expect(errors).toEqual([]);
    expect(shell.host.heard[0]?.bound['NewVHDPath']).toBe(sent);
  });

  it.each(['Move-VMStorage web01 -DestinationStoragePath " "', 'New-VM x -NewVHDPath " " -NewVHDSizeBytes 1GB', 'Get-VHD "`t"'])(
    '%s: a blank path is refused, not taken for a folder of that name',
    async (script) => {
      const { errors } = await shell.session.invoke(script);
      expect(errors.map(({ category }) => category)).toEqual(['InvalidArgument']);
      expect(errors[0]!.message).toContain('blank');
      expect(shell.host.heard).toEqual([]);
    },
  );

  it('a path outside the file system is refused', async () => {
    const { errors } = await shell.session.invoke('Move-VMStorage web01 -DestinationStoragePath env:HOME');
    expect(errors[0]).toMatchObject({
      id: 'InvalidParameter,Microsoft.HyperV.PowerShell.Commands.MoveVMStorage',
      category: 'InvalidArgument',
      target: 'env:HOME',
    });
    expect(shell.host.heard).toEqual([]);
  });

  it('of several piped paths a bad one is an error of its own, and the others are asked for', async () => {
    const { errors, terminated } = await shell.session.invoke("'env:HOME', 'nix:/a', '/b.img' | Get-VHD");
    expect(terminated).toBe(false);
    expect(errors.map(({ id, target }) => [id, target])).toEqual([
      ['InvalidParameter,Microsoft.Vhd.PowerShell.Cmdlets.GetVHD', 'env:HOME'],
      ['DriveNotFound,Microsoft.Vhd.PowerShell.Cmdlets.GetVHD', 'nix'],
    ]);
    expect(shell.host.heard.map(({ bound }) => bound)).toEqual([{ Path: ['/b.img'] }]);
  });

  it.each(['V:/x', 'v:\\x', 'V:x', 'Volume:/x'])('the path %s is on the drive that the session has', async (path) => {
    const { errors } = await shell.session.invoke(
      `param($path) foreach ($name in 'V', 'Volume') { $null = New-PSDrive $name FileSystem /srv }
       try { Move-VMStorage web01 -DestinationStoragePath $path } finally { Remove-PSDrive V, Volume }`,
      { path },
    );
    expect(errors).toEqual([]);
    expect(shell.host.heard[0]?.bound['DestinationStoragePath']).toBe('/srv/x');
  });

  it('the compiled cmdlets have the sets, positions, aliases and types of the definitions', async () => {
    const script = `foreach ($c in Get-Command -Module VMStorage -CommandType Cmdlet) {
      foreach ($set in $c.ParameterSets) { foreach ($p in $set.Parameters) {
        if ([System.Management.Automation.Cmdlet]::CommonParameters -notcontains $p.Name -and [System.Management.Automation.Cmdlet]::OptionalCommonParameters -notcontains $p.Name) {
          '{0}|{1}|{2}|{3}|{4}|{5}|{6}|{7}|{8}' -f $c.Name, $c.DefaultParameterSet, $set.Name, $p.Name, $p.IsMandatory, $p.Position, $p.ValueFromPipeline, $p.ValueFromPipelineByPropertyName, ($p.Aliases -join ',')
        } } } }`;
    const { output, errors } = await shell.session.invoke<string>(`Import-Module VMStorage; ${script}`);
    expect(errors).toEqual([]);
    const want: string[] = [];
    const bool = (value: boolean | undefined): string => (value ? 'True' : 'False');
    for (const cmdlet of Object.values(cmdlets) as unknown as Cmdlet[]) {
      for (const set of cmdlet.sets) {
        for (const [name, parameter] of Object.entries(cmdlet.parameters)) {
          const place = placementIn(parameter, set);
          // PowerShell's number for "named".
          if (place)
            want.push(
              [
                cmdlet.name,
                cmdlet.defaultSet,
                set,
                name,
                bool(place.mandatory),
                place.position ?? -2147483648,
                bool(place.byValue),
                bool(place.byName),
                parameter.aliases.join(','),
              ].join('|'),
            );
        }
      }
    }
    // A cmdlet whose parameters are all in every set shows PowerShell's name for that.
    expect(output.map((line) => line.replace('|__AllParameterSets|', '|Name|')).sort()).toEqual(want.sort());
  });
});
