/** A host that is not there is started by the command in VMSTORAGE_CLI, or it is said how to start it. */
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { PwshSession } from '../../src/powershell/session.js';
import { vm } from '../support/objects.js';
import { openSession, pwshOrUndefined } from '../support/pwsh.js';
import { requires } from '../support/requires.js';
import { ScriptedHost } from '../support/scripted-host.js';

describe.skipIf(!requires('PowerShell 7.6', await pwshOrUndefined()))('starting the host', () => {
  let host: ScriptedHost;
  let session: PwshSession;
  let folder: string;

  beforeAll(async () => {
    host = await ScriptedHost.listen({ 'Get-VM': (call) => call.output(vm()) });
    session = await openSession();
  }, 120_000);
  afterAll(async () => {
    await session?.[Symbol.asyncDispose]();
    await host?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'vms-start-'));
    await mkdir(join(folder, 'home'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  /** "Starts" the host: makes its socket appear in the home. */
  const starter = (): string =>
    `require('fs').appendFileSync('${folder}/calls', process.argv.slice(2).join(' ') + '\\n'); require('fs').symlinkSync('${host.address}', '${folder}/home/host.sock');`;

  async function getVM(environment: { [name: string]: string }): Promise<{ output: unknown[]; errors: { id: string; message: string }[] }> {
    const script = `param($environment)
      foreach ($name in 'VMSTORAGE_HOST', 'VMSTORAGE_HOME', 'VMSTORAGE_CLI', 'VMSTORAGE_NOSTART') { [Environment]::SetEnvironmentVariable($name, $environment[$name]) }
      $path = $env:PATH; if ($environment.PATH) { $env:PATH = $environment.PATH }
      try { (Get-VM).Name } finally { $env:PATH = $path }`;
    return session.invoke(script, { environment });
  }

  it.each([
    [
      'a script in VMSTORAGE_CLI',
      async () => (await writeFile(join(folder, 'cli.cjs.js'), starter()), { VMSTORAGE_CLI: join(folder, 'cli.cjs.js') }),
    ],
    [
      'vmstorage on PATH',
      async () => {
        await writeFile(join(folder, 'vmstorage'), `#!${process.execPath}\n${starter()}`);
        await chmod(join(folder, 'vmstorage'), 0o755);
        return { PATH: `${folder}:${process.env['PATH']}` };
      },
    ],
  ])('by %s, once', async (_, prepare) => {
    const environment = { VMSTORAGE_HOME: join(folder, 'home'), ...((await prepare()) as { [name: string]: string }) };
    const first = await getVM(environment);
    expect(first.errors).toEqual([]);
    expect(first.output).toEqual(['web01']);
    expect((await getVM(environment)).output).toEqual(['web01']);
    expect(await readFile(join(folder, 'calls'), 'utf8')).toBe('host start\n');
  });

  it('a start that fails is told with what it said', async () => {
    await writeFile(join(folder, 'cli.js'), "console.error('disk on fire'); process.exit(3);");
    const { errors } = await getVM({ VMSTORAGE_HOME: join(folder, 'home'), VMSTORAGE_CLI: join(folder, 'cli.js') });
    expect(errors[0]!.id).toBe('HostNotReachable,Microsoft.HyperV.PowerShell.Commands.GetVM');
    expect(errors[0]!.message).toContain('disk on fire');
  });

  it.each([
    ['VMSTORAGE_NOSTART is set', (home: string) => ({ VMSTORAGE_HOME: home, VMSTORAGE_NOSTART: '1' })],
    ['a socket was named', (home: string) => ({ VMSTORAGE_HOST: join(home, 'host.sock') })],
  ])('not when %s', async (_, environment) => {
    await writeFile(join(folder, 'cli.js'), starter());
    const { errors } = await getVM({ ...environment(join(folder, 'home')), VMSTORAGE_CLI: join(folder, 'cli.js') } as {
      [name: string]: string;
    });
    expect(errors[0]!.message).toContain("Start it with 'vmstorage host start'");
    await expect(readFile(join(folder, 'calls'))).rejects.toThrow('ENOENT');
  });
});
