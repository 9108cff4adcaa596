/** One assembly under two module names: either works, alone or both, in any order, and nothing happens at import. */
import { describe, expect, it } from 'vitest';
import { vm } from '../support/objects.js';
import { openSession, pwshOrUndefined } from '../support/pwsh.js';
import { requires } from '../support/requires.js';
import { ScriptedHost } from '../support/scripted-host.js';

describe.skipIf(!requires('PowerShell 7.6', await pwshOrUndefined()))('modules', () => {
  async function inFresh(script: string): Promise<{ output: unknown[]; errors: { id: string }[]; connections: number }> {
    await using host = await ScriptedHost.listen({ 'Get-VM': (call) => call.output(vm()) });
    await using session = await openSession(host);
    const { output, errors } = await session.invoke(script);
    return { output, errors, connections: host.connections };
  }

  it.each([
    ['Import-Module VMStorage, Hyper-V'],
    ['Import-Module Hyper-V, VMStorage'],
    ['Import-Module Hyper-V; Import-Module VMStorage -Force; Import-Module Hyper-V -Force'],
  ])(
    '%s gives both names over one set of types',
    async (imports) => {
      const { output, errors } = await inFresh(`
      ${imports}
      @(Get-Command -Module Hyper-V).Count -eq @(Get-Command -Module VMStorage).Count
      (Get-Command -Module Hyper-V).Count -gt 10
      (Hyper-V\\Get-VM).GetType() -eq (VMStorage\\Get-VM).GetType()
      "$((Get-Module Hyper-V).Version)"
      Hyper-V\\Get-VM | VMStorage\\Move-VMStorage -DestinationStoragePath /x
      ((Get-VM | Out-String -Width 120) -split "\\n")[1].Trim() -split '\\s+' | Select-Object -First 2`);
      expect(errors).toEqual([]);
      expect(output).toEqual([true, true, true, '2.0.0.0', 'Name', 'State']);
    },
    60_000,
  );

  it('auto-loads by command name, is listed, and nothing of it talks to the host before a cmdlet does', async () => {
    const { output, errors, connections } = await inFresh(`
      @(Get-Module Hyper-V, VMStorage -ListAvailable).Name | Sort-Object
      Import-Module Hyper-V; $null = Get-Command Get-VM, Move-VMStorage -Syntax; Remove-Module Hyper-V
      Import-Module VMStorage; (Get-Command Set-VM).Parameters.ContainsKey('AutomaticCheckpointsEnabled')`);
    expect(errors).toEqual([]);
    expect(output).toEqual(['Hyper-V', 'VMStorage', true]);
    expect(connections).toBe(0);
  }, 60_000);

  it('a bare name auto-loads, under strict mode too', async () => {
    const { output, errors } = await inFresh('Set-StrictMode -Version 3.0; (Get-VM web01).Name');
    expect(errors).toEqual([]);
    expect(output).toEqual(['web01']);
  }, 60_000);

  it('a version nobody has is refused by PowerShell', async () => {
    const { errors } = await inFresh('Import-Module Hyper-V -RequiredVersion 1.1');
    expect(errors.map((error) => error.id)).toEqual([
      'Modules_ModuleWithVersionNotFound,Microsoft.PowerShell.Commands.ImportModuleCommand',
    ]);
  }, 60_000);
});
