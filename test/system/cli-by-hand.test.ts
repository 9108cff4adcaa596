/** The README's "By hand" blocks, run as they stand there: a reader's words, other folders, a real host and a real QEMU. */
import { execFile } from 'node:child_process';
import { constants, existsSync, readFileSync } from 'node:fs';
import { access, mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { endProcessesOf } from '../../scripts/demo/demo-host.js';
import { checkoutFolder } from '../../src/powershell/checkout.js';
import { PwshSession } from '../../src/powershell/session.js';
import { moduleEnvironment, pwshOrUndefined } from '../support/pwsh.js';
import { lacks, requires } from '../support/requires.js';
import { makeScratch, type Scratch } from '../support/scratch.js';
import { commandLine } from '../support/serving.js';

const run = promisify(execFile);
/** Two moves of a running VM and everything before them; a busy machine takes as much longer. */
const BLOCK_LIMIT_MS = 500_000;
const TEST_LIMIT_MS = 600_000;

vi.setConfig({ testTimeout: TEST_LIMIT_MS });

/** The code block under a heading of the README. */
function block(heading: string): string {
  const section = readFileSync(join(checkoutFolder(), 'README.md'), 'utf8')
    .split(/^## /m)
    .find((text) => text.startsWith(`${heading}\n`));
  const code = /```\w+\n(.*?)```/s.exec(section ?? '')?.[1];
  if (!code) throw new Error(`the README has no code under "${heading}"`);
  return code;
}

const pwsh = await pwshOrUndefined();

describe.skipIf(lacks('qemu-system-x86_64', 'qemu-img'))('by hand', () => {
  let scratch: Scratch;
  let home: string;
  const at = (...names: string[]): string => join(scratch.path, ...names);
  /** The README's folders are somebody's own, and a move needs the room its disks may grow into: the test has others, and smaller ones. */
  const here = (text: string): string =>
    text.replaceAll('/srv/slow', at('slow')).replaceAll('/mnt/fast', at('fast')).replaceAll('40GB', '1GB');
  beforeEach(async () => {
    scratch = await makeScratch('by-hand');
    home = at('home');
    for (const name of ['slow', 'fast', 'home']) await mkdir(at(name));
  });
  afterEach(async () => {
    await endProcessesOf(home);
    await scratch[Symbol.asyncDispose]();
  });

  /** `npx vmstorage words`, without npx. */
  const vmstorage = async (...words: string[]): Promise<string> =>
    (await run(process.execPath, [commandLine, ...words], { env: { ...process.env, VMSTORAGE_HOME: home }, cwd: scratch.path })).stdout;

  it('npx may execute the command, which npm sees to only where it never did before', async () => {
    await expect(access(commandLine, constants.X_OK)).resolves.toBeUndefined();
  });

  it.skipIf(!requires('PowerShell 7.6', pwsh))('the PowerShell block moves a running VM there and back again', async () => {
    const environment = { ...(await moduleEnvironment()), VMSTORAGE_HOME: home };
    await using session = await PwshSession.start({
      executable: pwsh!.path,
      environment: { ...environment, PSModulePath: '' },
      cwd: checkoutFolder(),
    });
    const { output, errors, warnings } = await session.invoke(here(block('By hand, in PowerShell')), {}, { timeoutMs: BLOCK_LIMIT_MS });
    // What npx writes to its standard error is a record here, too.
    expect(errors.map(({ id, message }) => `${id}: ${message}`).join('\n')).toBe('');
    expect(warnings).toEqual([]);
    expect(output.at(-1)).toBe(at('slow', 'web01.vhdx'));
    const after = await session.invoke(`"$((Get-VM web01).State)"; "$((Get-VHD ${at('slow', 'web01.vhdx')}).Size)"`);
    expect(after).toMatchObject({ errors: [], output: ['Running', String(2 ** 30)] });
    expect((await readdir(at('fast'), { recursive: true })).filter((name) => name.endsWith('.vhdx'))).toEqual([]);
    await session.invoke('Stop-VM web01 -TurnOff -Force');
    await run('qemu-img', ['check', '-f', 'vhdx', at('slow', 'web01.vhdx')]);
  });

  it('the block without PowerShell does, too', async () => {
    const lines = here(block('By hand, without PowerShell'))
      .split('\n')
      .map((line) => line.replace(/\s+#.*$/, ''))
      .filter((line) => line !== '');
    const words = (starting: string): string[] => {
      const line = lines.find((one) => one.startsWith(`npx vmstorage ${starting}`));
      if (!line) throw new Error(`the README does not say npx vmstorage ${starting}`);
      return line.split(' ').slice(2);
    };
    expect(await vmstorage(...words('host start'))).toContain('was started');
    await vmstorage('New-VHD', '-Path', at('slow', 'web01.vhdx'), '-SizeBytes', '1GB', '-Dynamic');
    const machine = ['-Name', 'web01', '-MemoryStartupBytes', '512MB', '-Path', at('slow'), '-VHDPath', at('slow', 'web01.vhdx')];
    await vmstorage('New-VM', ...machine, '-Generation', '2');
    await vmstorage('Start-VM', 'web01');
    await vmstorage(...words('Move-VMStorage'));
    const target = at('fast', 'Virtual Hard Disks', 'web01.vhdx');
    expect(existsSync(at('slow', 'web01.vhdx'))).toBe(false);
    expect(await vmstorage(...words('Get-VMStorageMove'))).toMatch(/web01\s+done\s+100/);
    const drives = JSON.parse(await vmstorage('Get-VMHardDiskDrive', 'web01', '--json')) as { output: { Path: string }[] };
    expect(drives.output.map(({ Path }) => Path)).toEqual([target]);
    expect(JSON.parse(await vmstorage('Get-VM', 'web01', '--json'))).toMatchObject({ ok: true, output: [{ State: 'Running' }] });
    await vmstorage('Stop-VM', 'web01', '-TurnOff', '-Force');
    await run('qemu-img', ['check', '-f', 'vhdx', target]);
    expect(await vmstorage('host', 'stop')).toContain('was stopped');
  });
});
