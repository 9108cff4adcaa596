/**
 * The README by the letter: its blocks are run as they stand there, as somebody would who has just cloned and set up. The home folder is the
 * test's, so is the instance; nothing else is changed.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildShim } from '../../scripts/build-shim.js';
import type { DiskReceipt } from '../../src/model/move.js';
import { checkoutFolder } from '../../src/powershell/checkout.js';
import { killLeftovers, leftoversAfter } from '../support/leftovers.js';
import { pwshOrUndefined } from '../support/pwsh.js';
import { hashByHand } from '../support/receipt-recipe.js';
import { lacks, requires } from '../support/requires.js';
import { makeScratch, type Scratch } from '../support/scratch.js';
import { until } from '../support/until.js';

const run = promisify(execFile);
const LIMIT_MS = 180_000;

/** The code block under a heading. */
function block(heading: string): string {
  const readme = readFileSync(join(checkoutFolder(), 'README.md'), 'utf8');
  const section = readme.split(/^## /m).find((text) => text.startsWith(heading));
  const code = /```\w+\n(.*?)```/s.exec(section ?? '')?.[1];
  if (code === undefined) throw new Error(`the README has no block under "${heading}"`);
  return code;
}

const pwsh = await pwshOrUndefined();

describe.skipIf(lacks('qemu-system-x86_64', 'qemu-img', 'xxhsum', 'split', 'perl'))('the README', () => {
  let scratch: Scratch;
  let home: string;
  let environment: NodeJS.ProcessEnv;
  const [slow, fast] = ['slow', 'fast'].map((name) => () => join(home, 'vmstorage', name)) as [() => string, () => string];

  beforeAll(async () => {
    scratch = await makeScratch('readme');
    home = join(scratch.path, 'home');
    mkdirSync(home);
    const instance = join(scratch.path, 'h');
    mkdirSync(instance, { mode: 0o700 });
    environment = { ...process.env, HOME: home, VMSTORAGE_HOME: instance };
    for (const name of ['VMSTORAGE_HOST', 'VMSTORAGE_CLI', 'VMSTORAGE_NOSTART', 'PSModulePath']) delete environment[name];
  });
  afterAll(async () => {
    const mark = { variable: 'VMSTORAGE_HOME', id: environment['VMSTORAGE_HOME']!, folder: null, except: [process.pid] };
    killLeftovers(await leftoversAfter(mark));
    await scratch[Symbol.asyncDispose]();
  });

  it.skipIf(!requires('pwsh', pwsh))('in PowerShell: a disk and a machine are made, and moved there and back while it runs', async () => {
    await buildShim();
    const script = join(scratch.path, 'readme.ps1');
    writeFileSync(script, `$ErrorActionPreference = 'Stop'\n${block('By hand, in PowerShell')}`);
    const { stdout } = await run(pwsh!.path, ['-NoProfile', '-NonInteractive', '-File', script], {
      cwd: checkoutFolder(),
      env: environment,
      timeout: LIMIT_MS,
    });
    const disk = join(slow(), 'web01.vhdx');
    expect(stdout.trimEnd().split('\n').at(-1)).toBe(disk);
    expect(readdirSync(fast(), { recursive: true }).filter((name) => String(name).endsWith('.vhdx'))).toEqual([]);
    // -U: the machine runs.
    await run('qemu-img', ['check', '-U', '-f', 'vhdx', disk]);
  });

  it('without it: the same, a disk is served, and the receipt is recomputed by hand while the machine runs', async () => {
    const shell = spawn('sh', ['-e', '-c', block('By hand, without PowerShell')], {
      cwd: checkoutFolder(),
      env: environment,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    shell.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
    const [code] = (await once(shell, 'exit')) as [number | null];
    expect(code, said).toBe(0);
    expect(said).toMatch(/db01\s.*Completed/);
    expect(said).toContain('Moves the storage of running virtual machines');
    const socket = join(slow(), 'other.sock');
    const size = await until('the disk is served', async () =>
      run('qemu-img', ['info', '--output=json', `nbd+unix:///?socket=${socket}`]).then(
        ({ stdout }) => (JSON.parse(stdout) as { 'virtual-size': number })['virtual-size'],
        () => undefined,
      ),
    );
    expect(size).toBe(2 ** 30);
    const cli = join(checkoutFolder(), 'dist/src/cli/main.js');
    const { stdout } = await run(process.execPath, [cli, 'Get-VMStorageMove', 'db01', '-Last', '1', '--json'], { env: environment });
    const { output } = JSON.parse(stdout) as { output: { Receipt: string }[] };
    const [receipt] = JSON.parse(output[0]!.Receipt) as DiskReceipt[];
    expect(await hashByHand(join(fast(), 'Virtual Hard Disks', 'db01.vhdx'), 'vhdx')).toBe(receipt!.hash);
  });
});
