/** Errors as scripts meet them: ids, categories, exception types, what ends a script and what does not, and a host that misbehaves. */
import { writeFile } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { encodeFrame } from '../../src/protocol/frames.js';
import { vhd, vm } from '../support/objects.js';
import { openSession, pwshOrUndefined } from '../support/pwsh.js';
import { requires } from '../support/requires.js';
import { scriptedShell } from '../support/scripted-shell.js';

const getVM = 'Microsoft.HyperV.PowerShell.Commands.GetVM';

describe.skipIf(!requires('PowerShell 7.6', await pwshOrUndefined()))('errors', () => {
  const shell = scriptedShell({
    'Get-VM': async (call) => {
      for (const name of (call.bound['Name'] as string[] | undefined) ?? []) {
        if (name.startsWith('no')) {
          await call.error({
            message: `Hyper-V was unable to find a virtual machine with name "${name}".`,
            errorId: 'InvalidParameter',
            category: 'InvalidArgument',
            code: 'ObjectNotFound',
            target: name,
            recommendedAction: 'Look with Get-VM.',
          });
        } else await call.output(vm({ Name: name }));
      }
    },
  });

  it('an unknown VM is Hyper-V’s error, and the other names are returned all the same', async () => {
    const { output, errors, terminated } = await shell.session.invoke<{ Name: string }>('Get-VM nope, web01');
    expect(output.map((one) => one.Name)).toEqual(['web01']);
    expect(terminated).toBe(false);
    expect(errors).toEqual([
      {
        message: 'Hyper-V was unable to find a virtual machine with name "nope".',
        id: `InvalidParameter,${getVM}`,
        category: 'InvalidArgument',
        info: 'InvalidArgument: (nope:String) [Get-VM], VirtualizationException',
        target: 'nope',
        exceptionType: 'Microsoft.HyperV.PowerShell.VirtualizationException',
        recommendedAction: 'Look with Get-VM.',
      },
    ]);
  });

  it.each([
    ['Get-VM nope -ErrorAction Stop'],
    ['$ErrorActionPreference = "Stop"; Get-VM nope'],
    ['$ErrorActionPreference = "Stop"; function f { Get-VM nope }; f'],
  ])('%s stops, and a typed catch gets the exception itself', async (script) => {
    const { output } = await shell.session.invoke<string>(
      `try { ${script}; 'went on' } catch [Microsoft.HyperV.PowerShell.VirtualizationException] { $_.Exception.GetType().Name; $_.Exception.ErrorIdentifier; "$($_.Exception.ErrorCategory)"; $_.Exception.Code }`,
    );
    expect(output).toEqual(['VirtualizationException', 'InvalidParameter', 'InvalidArgument', 'ObjectNotFound']);
  });

  it('old scripts catch the same by the name VirtualizationOperationFailedException', async () => {
    const { output } = await shell.session.invoke(
      'try { Get-VM nope -EA Stop } catch [Microsoft.HyperV.PowerShell.VirtualizationOperationFailedException] { "caught" }',
    );
    expect(output).toEqual(['caught']);
  });

  it('-ErrorAction SilentlyContinue gives nothing, and -ErrorVariable keeps it', async () => {
    const { output, errors } = await shell.session.invoke(
      '$null -eq (Get-VM nope -EA SilentlyContinue -ErrorVariable e); $e.Count; $e[0].FullyQualifiedErrorId',
    );
    expect(output).toEqual([true, 1, `InvalidParameter,${getVM}`]);
    expect(errors).toEqual([]);
  });

  it('the VHD cmdlets have the namespace and class names of the VHD module', async () => {
    shell.host.scripts = {
      'New-VHD': (call) =>
        call.error({
          message: "Failed to create the virtual hard disk.\nThe system failed to create '/x.vhdx'. The file exists. (0x80070050).",
        }),
      'Get-VHD': (call) => call.error({ message: 'busy', errorId: 'ObjectInUse', category: 'ResourceBusy', code: 'ObjectInUse' }),
    };
    const { errors } = await shell.session.invoke('New-VHD /x.vhdx 1GB; Get-VHD /x.vhdx');
    expect(errors.map((error) => [error.id, error.info])).toEqual([
      ['OperationFailed,Microsoft.Vhd.PowerShell.Cmdlets.NewVhd', 'NotSpecified: (:) [New-VHD], VirtualizationException'],
      ['ObjectInUse,Microsoft.Vhd.PowerShell.Cmdlets.GetVHD', 'ResourceBusy: (:) [Get-VHD], VirtualizationException'],
    ]);
  });

  it('a terminating error ends the statement', async () => {
    shell.host.scripts = {
      'Get-VMHost': (call) =>
        call.send({
          k: 'terminating',
          e: { message: 'no', errorId: 'HostInternalError', category: 'NotSpecified', code: 'HostInternalError' },
        }),
    };
    const { output, errors } = await shell.session.invoke('try { Get-VMHost; "went on" } catch { $_.FullyQualifiedErrorId }');
    expect(output).toEqual(['HostInternalError,Microsoft.HyperV.PowerShell.Commands.GetVMHost']);
    expect(errors).toEqual([]);
  });

  it('a host that dies in mid-call is said at once; what had been written stays written', async () => {
    shell.host.scripts = {
      'Get-VM': async (call) => {
        await call.output(vm());
        shell.host.cut();
      },
    };
    const { output, errors } = await shell.session.invoke<{ Name?: string } | string>('try { Get-VM } catch { $_.FullyQualifiedErrorId }');
    expect(errors).toEqual([]);
    expect(output.at(-1)).toBe(`HostConnectionLost,${getVM}`);
    expect((output[0] as { Name: string }).Name).toBe('web01');
  });

  it('a host of another protocol version is refused before anything is asked of it', async () => {
    shell.host.options = { version: 7 };
    const { errors } = await shell.session.invoke('Move-VMStorage web01 /x');
    expect(errors).toHaveLength(1);
    expect(errors[0]).toMatchObject({
      id: 'HostVersionMismatch,Microsoft.HyperV.PowerShell.Commands.MoveVMStorage',
      category: 'ProtocolError',
    });
    expect(errors[0]!.message).toContain('protocol version 7');
    expect(errors[0]!.message).toContain('vmstorage host stop');
    expect(shell.host.messages.map((message) => message.k)).not.toContain('process');
  });

  it('a host with other definitions is warned about, once per shell', async () => {
    shell.host.options = { defs: 'sha256:of-another-release' };
    await using fresh = await openSession(shell.host);
    const { warnings, errors } = await fresh.invoke('Get-VM web01; Get-VM web01');
    expect(errors).toEqual([]);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain('not those of the host');
  }, 60_000);

  it('the client says who it is and what it knows', async () => {
    await shell.session.invoke('Get-VM web01');
    expect(shell.host.messages[0]).toMatchObject({ k: 'hello', v: 1, client: 'powershell' });
    expect((shell.host.messages[0] as { defs: string }).defs).toMatch(/^sha256:[0-9a-f]{64}$/);
  });

  it.each([
    ['an unknown message', encodeFrame({ k: 'nonsense' })],
    ['an unknown object', encodeFrame({ k: 'output', v: { $t: 'Nonsense' } })],
    ['an object with a value of another kind', encodeFrame({ k: 'output', v: { $t: 'VirtualMachine', Name: 'x', Id: 'no guid' } })],
    ['a number that does not fit', encodeFrame({ k: 'output', v: { $t: 'VirtualHardDisk', Size: '18446744073709551616' } })],
    ['text that is not JSON', Buffer.from([3, 0, 0, 0, 0x7b, 0x7b, 0x7b])],
    ['a frame without end', Buffer.from([0xff, 0xff, 0xff, 0x7f])],
    ['an empty frame', Buffer.from([0, 0, 0, 0])],
  ])('%s from the host closes the connection with a clear error', async (_, bytes) => {
    const path = join(shell.host.folder, 'bad.sock');
    let peer: Socket | undefined;
    const server = createServer((socket) => {
      peer = socket;
      socket.on('error', () => {});
      socket.write(encodeFrame({ k: 'hello', v: 1, host: 'bad', pid: 1 }));
      socket.write(bytes);
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
    try {
      const { errors } = await shell.session.invoke(
        `param($path) $env:VMSTORAGE_HOST = $path; try { Get-VM } finally { $env:VMSTORAGE_HOST = $null }`,
        { path },
      );
      expect(errors.map((error) => error.id)).toEqual([`HostConnectionLost,${getVM}`]);
      expect(errors[0]!.category).toBe('ConnectionError');
    } finally {
      peer?.destroy();
      await new Promise((resolve) => server.close(resolve));
      await shell.session.invoke(`param($path) $env:VMSTORAGE_HOST = $path`, { path: shell.host.address });
    }
  });

  it.each([
    ['a missing socket', async (folder: string) => join(folder, 'nothing.sock'), 'there is no such socket'],
    [
      'a file that is no socket',
      async (folder: string) => (await writeFile(join(folder, 'file.sock'), ''), join(folder, 'file.sock')),
      'nobody listens there',
    ],
    ['a path that is too long for a socket', async () => `/tmp/${'x'.repeat(120)}/host.sock`, 'longer than 107 bytes'],
  ])('%s is HostNotReachable and says how to start the host', async (_, make, why) => {
    const path = await make(shell.host.folder);
    const { errors } = await shell.session.invoke(
      `param($path, $back) $env:VMSTORAGE_HOST = $path; try { Get-VM } finally { $env:VMSTORAGE_HOST = $back }`,
      { path, back: shell.host.address },
    );
    expect(errors).toHaveLength(1);
    expect(errors[0]).toMatchObject({ id: `HostNotReachable,${getVM}`, category: 'ConnectionError', target: path });
    expect(errors[0]!.message).toContain(why);
    if (!why.includes('107')) expect(errors[0]!.message).toContain('vmstorage host start');
  });

  it('a whole pipeline goes on when one of several objects fails', async () => {
    shell.host.scripts['Get-VHD'] = (call) => {
      const [path] = call.bound['Path'] as string[];
      return path === '/bad' ? call.error({ message: 'bad' }) : call.output(vhd({ Path: path! }));
    };
    const { output, errors } = await shell.session.invoke<{ Path: string }>("'/a', '/bad', '/b' | Get-VHD");
    expect(output.map((one) => one.Path)).toEqual(['/a', '/b']);
    expect(errors).toHaveLength(1);
  });
});
