/** `npm run demo` as a person runs it: proves a move through the whole of the product, and leaves nothing behind when it is stopped. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import type { DemoReport } from '../../scripts/demo/report.js';
import { repository } from '../support/guest-kernel.js';
import { findLeftovers, MARKER } from '../support/leftovers.js';
import { lacks } from '../support/requires.js';
import { makeScratch } from '../support/scratch.js';

const demo = join(repository, 'dist/scripts/demo.js');
const hasModule = existsSync(join(repository, 'dist/powershell/VMStorage'));

describe.skipIf(lacks('qemu-system-x86_64', 'qemu-img', 'guest'))('the demo', () => {
  it('proves a move and says so in one JSON document', async () => {
    await using scratch = await makeScratch('run');
    const run = spawn(process.execPath, [demo, '--json'], {
      env: { ...process.env, TMPDIR: scratch.path },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const [out, story, [code]] = await Promise.all([text(run.stdout), text(run.stderr), once(run, 'exit') as Promise<[number]>]);
    const report = JSON.parse(out) as DemoReport;
    expect(report, story).toMatchObject({
      ok: true,
      problems: [],
      guestIoErrors: 0,
      blocksWrong: 0,
      sourceGone: true,
      viaPowerShell: hasModule,
    });
    expect(code).toBe(0);
    expect(readdirSync(scratch.path)).toEqual([]);
  });

  it('leaves nothing behind when it is stopped in the middle of a move', async () => {
    await using scratch = await makeScratch('run');
    const id = `demo-stopped-${process.pid}`;
    const run = spawn(process.execPath, [demo, '--no-powershell'], {
      env: { ...process.env, TMPDIR: scratch.path, [MARKER]: id },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    for await (const chunk of run.stdout) {
      said += String(chunk);
      // The first line of progress: the move runs.
      if (/^ {2}\[/m.test(said) && !run.killed) run.kill('SIGINT');
    }
    if (run.exitCode === null) await once(run, 'exit');
    expect(run.exitCode, said).toBe(130);
    expect(said).toContain('stopped by SIGINT');
    expect(findLeftovers({ id, folder: scratch.path })).toEqual([]);
  });

  it('--wizard leaves a running guest and a link to its wizard until Ctrl+C, and then nothing', async () => {
    await using scratch = await makeScratch('run');
    const id = `demo-wizard-${process.pid}`;
    const run = spawn(process.execPath, [demo, '--no-powershell', '--wizard'], {
      env: { ...process.env, TMPDIR: scratch.path, DISPLAY: '', WAYLAND_DISPLAY: '', [MARKER]: id },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    let said = '';
    let page = '';
    run.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    for await (const chunk of run.stdout) {
      said += String(chunk);
      const link = /^http:\/\/127\.0\.0\.1:\d+\/#s=[\w-]+$/m.exec(said)?.[0];
      if (link === undefined || run.killed) continue;
      page = await (await fetch(link)).text();
      run.kill('SIGINT');
    }
    if (run.exitCode === null) await once(run, 'exit');
    expect(run.exitCode, said).toBe(0);
    expect(page).toContain('<div id="app">');
    expect(said).toMatch(/The machine "demo" runs on .*slow\. Move its storage to .*fast/);
    expect(findLeftovers({ id, folder: scratch.path })).toEqual([]);
    expect(readdirSync(scratch.path)).toEqual([]);
  });
});
