/** Output objects are real .NET objects under Hyper-V's names, exact in every value, and survive the way through a file or a job. */
import { describe, expect, it } from 'vitest';
import { drive, host as vmHost, move, vhd, vm, vmId } from '../support/objects.js';
import { pwshOrUndefined } from '../support/pwsh.js';
import { requires } from '../support/requires.js';
import { scriptedShell } from '../support/scripted-shell.js';

describe.skipIf(!requires('PowerShell 7.6', await pwshOrUndefined()))('objects', () => {
  const shell = scriptedShell({
    'Get-VM': (call) => call.output(vm({ HardDrives: [drive(), drive({ Path: '/srv/slow/data.img', ControllerLocation: 1 })] as never })),
    'Get-VHD': (call) => call.output(vhd({ Size: '18446744073709551615' })),
    'Get-VMHost': (call) => call.output(vmHost()),
    'Get-VMStorageMove': (call) => call.output(move()),
  });

  const ask = async (script: string): Promise<unknown[]> => {
    const { output, errors } = await shell.session.invoke(script);
    expect(errors).toEqual([]);
    return output;
  };

  it.each([
    ['(Get-VM).GetType().FullName', 'Microsoft.HyperV.PowerShell.VirtualMachine'],
    ['(Get-VM) -is [Microsoft.HyperV.PowerShell.VirtualMachineBase]', true],
    ['(Get-VM).HardDrives.GetType().FullName', 'Microsoft.HyperV.PowerShell.HardDiskDrive[]'],
    ['(Get-VM).HardDrives[0] -is [Microsoft.HyperV.PowerShell.Drive]', true],
    ['(Get-VHD /x).GetType().FullName', 'Microsoft.Vhd.PowerShell.VirtualHardDisk'],
    ['(Get-VHD /x).Size.ToString()', '18446744073709551615'],
    ['(Get-VHD /x).Size.GetType().Name', 'UInt64'],
    ['(Get-VHD /x).MinimumSize -eq $null', true],
    ['(Get-VM).State.GetType().FullName', 'Microsoft.HyperV.PowerShell.VMState'],
    ["(Get-VM).State -eq 'Running'", true],
    ['(Get-VM).State -eq 2', true],
    ['"$((Get-VM).State)"', 'Running'],
    ["[int][Microsoft.HyperV.PowerShell.VMState]'saved'", 6],
    ['(Get-VM | ConvertTo-Json -Depth 1 | ConvertFrom-Json).State', 2],
    ['[Microsoft.Vhd.PowerShell.VHDType]3 -eq (Get-VHD /x).VhdType', true],
    ['(Get-VM).Uptime.ToString()', '00:11:52.2810000'],
    ['(Get-VM).CreationTime.Kind.ToString()', 'Local'],
    ["(Get-VM).CreationTime.ToUniversalTime().ToString('o')", '2026-11-23T12:34:56.1234567Z'],
    ['(Get-VM).Id.GetType().Name', 'Guid'],
    ['"$(Get-VM)"', `VirtualMachine (Name = 'web01') [Id = '${vmId.toUpperCase()}']`],
    ['(Get-VM).VMName', 'web01'],
    ['(Get-VM).VMId.ToString()', vmId],
    ['(Get-VM).CheckpointFileLocation', '/srv/slow'],
    ['$null -eq (Get-VM).ParentCheckpointId', true],
    ['$null -eq (Get-VHD /x).Number', true],
    ['(Get-VM).HardDrives.Path -join ","', '/srv/slow/web01.vhdx,/srv/slow/data.img'],
    ['$null -eq (Get-VM).HardDrives[0].DiskNumber', true],
    ['(Get-VMStorageMove).GuestP99Us', 350],
    ['$null -eq (Get-VMStorageMove).BlackoutUs', true],
    ["try { (Get-VM).Name = 'x' } catch { $_.Exception.Message -match 'ReadOnly' }", true],
    ['function f([Microsoft.HyperV.PowerShell.VirtualMachine]$vm) { $vm.Name }; f (Get-VM)', 'web01'],
    ['[Microsoft.HyperV.PowerShell.VirtualMachine[]]$v = Get-VM; $v.Count', 1],
  ])('%s is %s', async (script, want) => {
    expect(await ask(script)).toEqual([want]);
  });

  it('an enum value of a newer host stays its number', async () => {
    shell.host.scripts['Get-VM'] = (call) => call.output({ ...vm(), State: 77 as never });
    expect(await ask('"$((Get-VM).State)"; [int](Get-VM).State')).toEqual(['77', 77]);
  });

  it('what the host leaves out has the value its definition fixes', async () => {
    expect(
      await ask('$vm = Get-VM; $vm.IsClustered; "$($vm.CheckpointType)"; @($vm.NetworkAdapters).Count; "$($vm.ReplicationState)"'),
    ).toEqual([false, 'Disabled', 0, 'Disabled']);
  });

  it('an object through Export-Clixml is real again, drives included, and binds', async () => {
    const output = await ask(`
      $file = [IO.Path]::GetTempFileName()
      Get-VM | Export-Clixml $file
      $back = Import-Clixml $file
      Remove-Item $file
      $back.GetType().FullName; "$($back.State)"; $back.HardDrives[1].Path; $back.HardDrives[1].GetType().Name; $back.Uptime.ToString(); $back.MemoryAssigned; $back.VMName
      $back | Move-VMStorage -DestinationStoragePath /x`);
    expect(output).toEqual([
      'Microsoft.HyperV.PowerShell.VirtualMachine',
      'Running',
      '/srv/slow/data.img',
      'HardDiskDrive',
      '00:11:52.2810000',
      536870912,
      'web01',
    ]);
    expect(shell.host.heard.at(-1)).toMatchObject({ parameterSet: 'VMSingleDestination', bound: { VM: { Id: vmId } } });
  });

  it('an object from Start-Job is real again', async () => {
    const output = await ask(
      'Import-Module VMStorage; $vm = Start-Job { Get-VM } | Receive-Job -Wait -AutoRemoveJob; $vm.GetType().FullName; $vm.HardDrives[0].Path',
    );
    expect(output).toEqual(['Microsoft.HyperV.PowerShell.VirtualMachine', '/srv/slow/web01.vhdx']);
  }, 60_000);

  it.each([
    [
      'Get-VM',
      ['Name', 'State', 'CPUUsage(%)', 'MemoryAssigned(M)', 'Uptime', 'Status', 'Version'],
      /web01\s+Running\s+3\s+512\s+00:11:52\.2810000\s+Operating normally\s+12\.0/,
    ],
    [
      '(Get-VM).HardDrives',
      ['VMName', 'ControllerType', 'ControllerNumber', 'ControllerLocation', 'DiskNumber', 'Path'],
      /web01\s+SCSI\s+0\s+1\s+\/srv\/slow\/data\.img/,
    ],
    [
      'Get-VMStorageMove',
      ['VMName', 'Phase', 'Percent', 'Copied(M)', 'M/s', 'Left(s)', 'P99(us)', 'Outcome'],
      /web01\s+copy\s+37\s+1000\s+100\s+400\s+350\s+Running/,
    ],
  ])('%s shows the table of Hyper-V', async (script, heads, row) => {
    const [text] = (await ask(`${script} | Out-String -Width 130`)) as string[];
    expect(
      text!
        .split('\n')
        .find((line) => line.includes(heads[0]!))
        ?.trim()
        .split(/\s+/),
    ).toEqual(heads);
    expect(text).toMatch(row);
  });

  it('Get-VHD shows the list of Hyper-V, in its order', async () => {
    const [text] = (await ask('Get-VHD /x | Out-String -Width 130')) as string[];
    expect([...text!.matchAll(/^(\w+)\s+:/gm)].map((match) => match[1])).toEqual([
      'ComputerName',
      'Path',
      'VhdFormat',
      'VhdType',
      'FileSize',
      'Size',
      'MinimumSize',
      'LogicalSectorSize',
      'PhysicalSectorSize',
      'BlockSize',
      'ParentPath',
      'DiskIdentifier',
      'FragmentationPercentage',
      'Alignment',
      'Attached',
      'DiskNumber',
      'IsPMEMCompatible',
      'AddressAbstractionType',
      'Number',
    ]);
  });

  it('on a narrow screen long values wrap instead of being lost', async () => {
    const [text] = (await ask('(Get-VM).HardDrives[0] | Out-String -Width 80')) as string[];
    const tail = text!
      .split('\n')
      .slice(3)
      .map((line) => line.slice(72))
      .join('');
    expect(tail.replace(/\s/g, '')).toBe('/srv/slow/web01.vhdx');
  });

  it('verbose, debug and information go to their streams, and only what is wanted is asked for', async () => {
    shell.host.scripts['Get-VM'] = async (call) => {
      for (const stream of ['verbose', 'debug', 'information', 'warning'] as const) await call.text(stream, stream);
    };
    const result = await shell.session.invoke('Get-VM -Verbose; $DebugPreference = "Continue"; Get-VM');
    expect(result).toMatchObject({
      verbose: ['verbose'],
      debug: ['debug'],
      information: ['information', 'information'],
      warnings: ['warning', 'warning'],
    });
    expect(shell.host.heard.map((one) => [one.prefs.verbose, one.prefs.debug])).toEqual([
      [true, false],
      [false, true],
    ]);
  });
});
