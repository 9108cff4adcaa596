/** Tab and Get-Help. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { cmdlets, type Cmdlet } from '../../cmdlets/index.js';
import { drive, host as vmHost, move, vhd, vm } from '../support/objects.js';
import { pwshOrUndefined } from '../support/pwsh.js';
import { requires } from '../support/requires.js';
import { scriptedShell } from '../support/scripted-shell.js';

const all = Object.values(cmdlets) as unknown as readonly Cmdlet[];

describe.skipIf(!requires('PowerShell 7.6', await pwshOrUndefined()))('completion and help', () => {
  const shell = scriptedShell();

  beforeAll(async () => {
    await shell.session.invoke('Import-Module VMStorage -Global');
  }, 120_000);
  beforeEach(() => {
    shell.host.options = {
      complete: (kind, word) =>
        ['web01', 'web 02', "web'03", 'db01']
          .filter((name) => kind === 'vmName' && name.startsWith(word))
          .map((text) => ({ text, tip: `${text}, Running` })),
    };
  });

  async function tab(line: string): Promise<{ text: string; tip: string; list: string }[]> {
    const script =
      'param($line) foreach ($m in (TabExpansion2 $line $line.Length).CompletionMatches) { @{ text = $m.CompletionText; tip = $m.ToolTip; list = $m.ListItemText } }';
    const { output, errors } = await shell.session.invoke<{ text: string; tip: string; list: string }>(script, { line });
    expect(errors).toEqual([]);
    return output;
  }

  it.each(['Get-VM w', 'Get-VM -Name w', 'Move-VMStorage -VMName w', 'Remove-VMHardDiskDrive w', "Get-VMHardDiskDrive -VMName 'w"])(
    '%s<Tab> offers the names of the host, quoted where need be',
    async (line) => {
      expect((await tab(line)).map((match) => match.text)).toEqual(['web01', "'web 02'", "'web''03'"]);
    },
  );

  it('the tip is the host’s', async () => {
    expect(await tab('Get-VM d')).toEqual([{ text: 'db01', tip: 'db01, Running', list: 'db01' }]);
  });

  it.each([
    ['Set-VM x -AutomaticStopAction S', ['Save', 'ShutDown']],
    ['New-VHD /x 1GB -LogicalSectorSizeBytes ', ['4096', '512']],
  ])('%s<Tab> completes without the host', async (line, want) => {
    expect((await tab(line)).map((match) => match.text).sort()).toEqual(want);
    expect(shell.host.connections).toBe(0);
  });

  it('paths complete as files', async () => {
    expect((await tab('Move-VMStorage x -DestinationStoragePath /et')).map((match) => match.text)).toContain('/etc');
  });

  it('a file name with brackets completes to itself: the parameters take paths, not patterns', async () => {
    await mkdir(join(shell.host.folder, 'd [1] x'));
    const want = `'${join(shell.host.folder, 'd [1] x')}'`;
    for (const parameter of [
      'Move-VMStorage x -DestinationStoragePath',
      'Move-VMStorage x -VirtualMachinePath',
      'Get-VHD',
      'New-VHD -Path',
    ])
      expect((await tab(`${parameter} ${shell.host.folder}/d`)).map((match) => match.text)).toEqual([want]);
  });

  it('a name that begins with a dash is quoted: bare it would be a parameter', async () => {
    shell.host.options = { complete: () => [{ text: '-web', tip: '' }] };
    expect((await tab('Move-VMStorage ')).map((match) => match.text)).toEqual(["'-web'"]);
  });

  it('a name that is not a path does not complete as a file', async () => {
    expect(await tab('New-VM -Name /et')).toEqual([]);
    expect(await tab('Get-VM -ComputerName /et')).toEqual([]);
  });

  it('a host that accepts and never answers costs half a second at most, and no error', async () => {
    shell.host.options = { complete: () => 'silence' };
    const { output } = await shell.session.invoke<number>(`
      $Error.Clear(); $w = [Diagnostics.Stopwatch]::StartNew()
      $n = (TabExpansion2 'Get-VM we' 9).CompletionMatches.Count; $w.ElapsedMilliseconds; $n; $Error.Count`);
    expect(output[0]).toBeLessThan(2500);
    expect(output.slice(1)).toEqual([0, 0]);
  });

  it('without a host there is nothing, quickly', async () => {
    const { output } = await shell.session.invoke<number>(`
      $back = $env:VMSTORAGE_HOST; $env:VMSTORAGE_HOST = '/nonexistent/host.sock'
      try { (TabExpansion2 'Get-VM we' 9).CompletionMatches.Count } finally { $env:VMSTORAGE_HOST = $back }`);
    expect(output).toEqual([0]);
  });

  it.each(all.map((cmdlet) => [cmdlet.name, cmdlet] as const))(
    'Get-Help %s has synopsis, syntax of every set, every parameter and its examples',
    async (name, cmdlet) => {
      const { output, errors } = await shell.session.invoke<Record<string, unknown>>(
        `param($name) $h = Get-Help $name -Full
       @{ synopsis = $h.Synopsis; sets = @($h.syntax.syntaxItem).Count; parameters = @($h.parameters.parameter.name); examples = @($h.examples.example | ForEach-Object { $_.code }); file = $h.ModuleName; text = ($h | Out-String -Width 200)
          undescribed = @($h.parameters.parameter | Where-Object { -not $_.description.Text } | ForEach-Object { $_.name }) }`,
        { name },
      );
      expect(errors).toEqual([]);
      const help = output[0]!;
      expect(help['synopsis']).toBe(cmdlet.synopsis);
      expect(help['sets']).toBe(cmdlet.sets.length);
      expect(help['parameters']).toEqual([...Object.keys(cmdlet.parameters), ...(cmdlet.changes ? ['WhatIf', 'Confirm'] : [])]);
      expect(help['undescribed']).toEqual([]);
      expect(help['examples']).toEqual(cmdlet.examples.map((example) => example.code));
    },
  );

  it.each(all.flatMap((cmdlet) => cmdlet.examples.map((example) => [example.code, cmdlet.name] as const)))(
    'the example runs: %s',
    async (code, name) => {
      shell.host.scripts = {
        'Get-VM': (call) => call.output(vm()),
        'Get-VMHardDiskDrive': (call) => call.output(drive()),
        'Get-VHD': (call) => call.output(vhd()),
        'Get-VMHost': (call) => call.output(vmHost()),
        'Get-VMStorageMove': (call) => call.output(move()),
        'Move-VMStorage': async (call) => void (await call.ask('Move it?')),
      };
      const { errors } = await shell.session.invoke('param($code) Invoke-Expression $code', { code });
      expect(errors).toEqual([]);
      expect(shell.host.heard.map((one) => one.cmdlet)).toContain(name);
    },
  );

  it('about_VMStorage is found', async () => {
    const { output } = await shell.session.invoke<string>('Get-Help about_VMStorage | Out-String');
    expect(output.join('')).toContain('Moves the storage of a running virtual machine');
  });
});
