/** A real guest over a stop of the system and the boot after it: as the units of docs do it, with the command of the unit. */
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { repository } from '../support/guest-kernel.js';
import { Instance } from '../support/instance.js';
import { Machine } from '../support/machine.js';
import { lacks } from '../support/requires.js';
import { guestsUnitFile, unitSection } from '../support/service-unit.js';
import { until } from '../support/until.js';

const run = promisify(execFile);
const disks = ['data.img'];

describe.skipIf(lacks('qemu-system-x86_64'))('a guest', () => {
  let instance: Instance;
  let machine: Machine;
  beforeAll(async () => {
    instance = await Instance.start('boots');
    machine = await Machine.create(instance, { name: 'web01', folder: join(instance.folder, 'slow'), disks });
  });
  afterAll(async () => {
    await machine[Symbol.asyncDispose]();
    await instance[Symbol.asyncDispose]();
  });

  /** What the unit says, in this checkout and instance. */
  async function unitCommand(name: 'ExecStart' | 'ExecStop'): Promise<string> {
    const [, program, ...words] = unitSection('Service', guestsUnitFile)[name]!.split(' ');
    const { stdout } = await run(process.execPath, [program!.replace('/usr/lib/vmstorage', repository), ...words], {
      env: instance.environment,
    });
    return stdout;
  }
  const runningFile = async () => JSON.parse(await readFile(instance.paths.runningFile, 'utf8')) as { running: string[]; system: string };

  it('goes on over a restart of the host, which starts and stops nothing', async () => {
    await machine.start();
    const { qemuPid } = machine;
    await instance.stopHost();
    await instance.startHost();
    expect(await unitCommand('ExecStart')).toBe('');
    expect(machine.qemuPid).toBe(qemuPid);
    expect(await machine.get()).toMatchObject({ State: 'Running', AutomaticStartAction: 'StartIfRunning' });
    expect(await runningFile()).toMatchObject({ running: [machine.id] });
  });

  it('is shut down before the system stops: it has written out everything, and its disk is closed', async () => {
    const from = machine.console.here;
    expect(await unitCommand('ExecStop')).toBe('The virtual machine "web01" was shut down.\n');
    expect(await machine.get()).toMatchObject({ State: 'Off' });
    await until('its worker is gone', () => (instance.processes.length === 1 ? true : undefined)); // the host alone
    await machine.checkDone(from, machine.disks);
  });

  it('is started again after the boot, because it ran, and by itself', async () => {
    await instance.stopHost();
    const boots = machine.console.lines.filter((line) => line.ev === 'ready').length;
    // A boot is another boot id: the one thing here that is played.
    await writeFile(instance.paths.runningFile, JSON.stringify({ ...(await runningFile()), system: 'an earlier boot/1' }));
    await instance.startHost();
    await machine.console.ready(boots + 1);
    expect(await machine.get()).toMatchObject({ State: 'Running' });
    await machine.stopAndCheck(machine.disks);
  });

  it('stays off after a boot when a person has turned it off before', async () => {
    await instance.stopHost();
    await writeFile(instance.paths.runningFile, JSON.stringify({ ...(await runningFile()), system: 'an earlier boot/1' }));
    await instance.startHost();
    await until('the host has looked', async () => ((await runningFile()).system !== 'an earlier boot/1' ? true : undefined));
    expect(await machine.get()).toMatchObject({ State: 'Off' });
    expect(await runningFile()).toMatchObject({ running: [], waiting: [], stopped: [] });
  });
});
