/** The systemd unit as systemd itself reads it, and the command line in it as the host understands it. What it has to say: test/unit/os. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { repository } from '../support/guest-kernel.js';
import { lacks } from '../support/requires.js';
import { makeScratch } from '../support/scratch.js';
import { guestsUnitFile, unitFile, unitSection } from '../support/service-unit.js';
import { until } from '../support/until.js';

const run = promisify(execFile);

/** What systemd says against a unit. A misspelt setting is a warning, not a failure: it is ignored, and the default is used. */
async function objections(unit: string, name = 'vmstorage.service'): Promise<string> {
  await using scratch = await makeScratch('unit');
  // The one of the guests names the other.
  for (const [each, text] of [
    ['vmstorage.service', await readFile(unitFile, 'utf8')],
    [name, unit],
  ] as const) {
    // Node is wherever it is on this machine.
    await writeFile(join(scratch.path, each), text.replaceAll('/usr/bin/node', process.execPath));
  }
  const file = join(scratch.path, name);
  return await run('systemd-analyze', ['verify', '--man=no', file]).then(
    ({ stdout, stderr }) => stdout + stderr,
    (error: { readonly stderr: string; readonly message: string }) => error.stderr || error.message,
  );
}

describe.skipIf(lacks('systemd-analyze'))('systemd', () => {
  it('has nothing against the units', async () => {
    expect(await objections(await readFile(unitFile, 'utf8'))).toBe('');
    expect(await objections(await readFile(guestsUnitFile, 'utf8'), 'vmstorage-guests.service')).toBe('');
  });

  it('would say so of a wrong value, a misspelt setting or a program that is not there', async () => {
    const unit = await readFile(unitFile, 'utf8');
    expect(await objections(unit.replace('KillMode=process', 'KillMode=proces'))).toMatch(/kill mode/);
    expect(await objections(unit.replace('KillMode=', 'KilMode='))).toMatch(/KilMode/);
    expect(await objections(unit.replace('/usr/bin/node', '/nowhere/node'))).toMatch(/nowhere\/node/);
  });
});

describe.skipIf(lacks('systemd-analyze'))('what the units leave open', () => {
  /** As systemd sums it up: 10 is everything. */
  async function exposure(file: string): Promise<number> {
    const { stdout } = await run('systemd-analyze', ['security', '--offline=true', '--no-pager', file]).catch(
      (error: { readonly stdout: string; readonly stderr: string }) => error,
    );
    const found = /Overall exposure level for \S+: ([\d.]+)/.exec(stdout)?.[1];
    if (found === undefined) throw new Error(`systemd-analyze says: ${stdout.slice(-300)}`);
    return Number(found);
  }

  it('is little for a host that works on disks of anybody, and next to nothing for a command', async () => {
    expect(await exposure(unitFile)).toBeLessThanOrEqual(4);
    expect(await exposure(guestsUnitFile)).toBeLessThanOrEqual(2);
  });
});

describe('the command of the unit', () => {
  it('starts a host that logs where the journal reads, and ends well when it is told to', async () => {
    await using scratch = await makeScratch('service');
    const home = join(scratch.path, 'h');
    await mkdir(home, { mode: 0o700 });
    const [, program, ...options] = unitSection('Service')['ExecStart']!.split(' ');
    const host = spawn(process.execPath, [program!.replace('/usr/lib/vmstorage', repository), ...options], {
      env: { ...process.env, VMSTORAGE_HOME: home },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    try {
      let said = '';
      for (const stream of [host.stdout, host.stderr]) stream.setEncoding('utf8').on('data', (text: string) => void (said += text));
      await until('the host listens', () => {
        if (host.exitCode !== null) throw new Error(`it ended with ${host.exitCode}`);
        return (said.includes(`listens on ${home}/host.sock`) && said.includes('"msg":"the host serves"')) || undefined;
      });
      const ended = once(host, 'close');
      host.kill('SIGTERM');
      expect(await ended).toEqual([0, null]);
      expect(said).toContain('workers and guests go on');
    } finally {
      host.kill('SIGKILL');
    }
  });
});
