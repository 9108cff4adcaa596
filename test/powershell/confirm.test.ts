/** -WhatIf and -Confirm, from every place they can come from: a change that was only to be talked about must not happen. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { beforeEach, describe, expect, it } from 'vitest';
import { vm } from '../support/objects.js';
import { findPwsh } from '../../src/powershell/find-pwsh.js';
import { moduleEnvironment, pwshOrUndefined } from '../support/pwsh.js';
import { requires } from '../support/requires.js';
import { scriptedShell } from '../support/scripted-shell.js';

describe.skipIf(!requires('PowerShell 7.6', await pwshOrUndefined()))('confirmation', () => {
  let done: string[] = [];
  const shell = scriptedShell({
    'Get-VM': async (call) => {
      await call.output(vm());
      await call.output(vm({ Name: 'web02' }));
    },
    'Move-VMStorage': async (call) => {
      const name = (call.bound['Name'] as string | undefined) ?? (call.bound['VM'] as { Name: string }).Name;
      if (await call.ask(`Move-VMStorage will move the storage of the virtual machine "${name}".`)) done.push(name);
    },
    'Remove-VM': async (call) => {
      if (
        (await call.ask('Remove-VM will remove virtual machine "web01".')) &&
        (call.bound['Force'] || (await call.ask('Remove "web01"?', 'shouldContinue')))
      )
        done.push('removed');
    },
  });
  beforeEach(() => {
    done = [];
  });

  it('a plain call asks nobody and does it', async () => {
    const { errors } = await shell.session.invoke('Move-VMStorage web01 /x');
    expect(errors).toEqual([]);
    expect(done).toEqual(['web01']);
  });

  it.each([
    ['-WhatIf', 'Get-VM | Move-VMStorage -DestinationStoragePath /x -WhatIf'],
    ['the preference of the calling script', '$WhatIfPreference = $true; Get-VM | Move-VMStorage -DestinationStoragePath /x'],
    [
      'the preference of a function that calls',
      'function f { [CmdletBinding(SupportsShouldProcess)] param() Get-VM | Move-VMStorage -DestinationStoragePath /x }; f -WhatIf',
    ],
    ['a job that would be made', 'Get-VM | Move-VMStorage -DestinationStoragePath /x -AsJob -WhatIf'],
  ])('by %s nothing is done, and our own sentence is said', async (_, script) => {
    const { output, errors } = await shell.session.invoke(script);
    expect(errors).toEqual([]);
    expect(output).toEqual([]);
    expect(done).toEqual([]);
    expect(shell.host.messages.filter((message) => message.k === 'reply').map((message) => message.value)).toEqual([false, false]);
  });

  it.each([
    ['-Confirm', 'Move-VMStorage web01 /x -Confirm'],
    ['a lowered $ConfirmPreference', '$ConfirmPreference = "Low"; Move-VMStorage web01 /x'],
  ])('%s without anybody to ask is an error, and nothing is done', async (_, script) => {
    const { errors, terminated } = await shell.session.invoke(script);
    expect(terminated).toBe(true);
    expect(errors[0]!.id).toBe('InvalidOperation,Microsoft.HyperV.PowerShell.Commands.MoveVMStorage');
    expect(done).toEqual([]);
    // The question was answered before the connection went: the host does not wait for it.
    expect(shell.host.messages.find((message) => message.k === 'reply')).toMatchObject({ value: false });
  });

  it('-Confirm:$false wins over a lowered preference', async () => {
    await shell.session.invoke('$ConfirmPreference = "Low"; Move-VMStorage web01 /x -Confirm:$false');
    expect(done).toEqual(['web01']);
  });

  it('what must be confirmed is not done by an Enter: the default is No', async () => {
    const { path } = await findPwsh({ fetch: false });
    const script = 'Import-Module VMStorage; Remove-VM web01';
    // At a terminal's place a pipe: what is typed is one line for each question.
    const ask = async (typed: string): Promise<string> => {
      const pwsh = spawn(path, ['-NoProfile', '-NoLogo', '-Command', script], { env: await moduleEnvironment(shell.host) });
      pwsh.stdin.end(typed);
      const said = text(pwsh.stdout);
      await once(pwsh, 'exit');
      return said;
    };
    expect(await ask('\n')).toMatch(/Remove "web01"\?[^]*\(default is "N"\)/);
    expect(done).toEqual([]);
    await ask('y\n');
    expect(done).toEqual(['removed']);
  });

  it('what must be confirmed is not done without -Force when nobody can be asked', async () => {
    const { errors } = await shell.session.invoke('Remove-VM web01');
    expect(errors.map(({ message }) => message)).toEqual(['Remove "web01"? This must be confirmed, and nobody can be asked. Use -Force.']);
    expect(done).toEqual([]);
    await shell.session.invoke('Remove-VM web01 -Force');
    expect(done).toEqual(['removed']);
  });
});
