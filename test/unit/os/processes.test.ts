/** Processes that outlive their starter, and the paths of an instance. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock, waitUntil } from '../../../src/os/clock.js';
import { instancePaths } from '../../../src/os/paths.js';
import { native } from '../../../src/native/binding.js';
import { ownUid } from '../../../src/os/own-folder.js';
import { ownProcesses, startedAt, systemProcesses as processes, waitForExit } from '../../../src/os/processes.js';

/** A tick is 10 ms, and two clocks are read one after the other. */
const CLOCKS_APART_MS = 100;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vmstorage-processes-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe('a detached process', () => {
  it('is named by pid and start time, writes to its log, and is gone once killed although it is a zombie until reaped', async () => {
    const logFile = join(folder, 'out.log');
    const marker = `vmstorage-test-${process.pid}`;
    const { identity, exited } = await processes.startDetached({
      command: '/bin/sh',
      args: ['-c', 'echo hello; exec sleep 60', marker],
      logFile,
      cwd: '/',
    });
    expect(processes.isAlive(identity)).toBe(true);
    expect(processes.identify(identity.pid)).toEqual(identity);
    expect(processes.isAlive({ ...identity, startTicks: '1' })).toBe(false);
    expect(processes.isAlive({ ...identity, bootId: 'another' })).toBe(false);
    expect(processes.signal({ ...identity, startTicks: '1' }, 'SIGKILL')).toBe(false);
    expect(await waitUntil(systemClock, 30_000, 5, async () => ((await readFile(logFile, 'utf8')) === 'hello\n' ? true : undefined))).toBe(
      true,
    );
    expect(processes.signal(identity, 'SIGKILL')).toBe(true);
    expect(await waitForExit(processes, systemClock, identity, 5_000)).toBe(true);
    expect((await exited).signal).toBe('SIGKILL');
  });

  it('tells when it was started, to whoever finds it', async () => {
    const found = startedAt(processes.identify(process.pid)!, systemClock).getTime();
    expect(Math.abs(found - (Date.now() - process.uptime() * 1000))).toBeLessThan(CLOCKS_APART_MS);
  });

  it('that cannot be run is an error of its starter', async () => {
    await expect(
      processes.startDetached({ command: '/nowhere/program', args: [], logFile: join(folder, 'log'), cwd: '/' }),
    ).rejects.toThrow(/ENOENT/);
  });

  it('is found by its command line', async () => {
    const { identity } = await processes.startDetached({ command: '/bin/sleep', args: ['61.25'], logFile: join(folder, 'log'), cwd: '/' });
    expect(processes.find((line) => line[1] === '61.25').map((found) => found.pid)).toEqual([identity.pid]);
    expect(
      processes.find(
        (line) => line[1] === '61.25',
        ownProcesses((name) => name === 'node'),
      ),
    ).toEqual([]);
    expect(processes.find((line) => line[1] === '61.25', { ...ownProcesses(), isUser: (uid) => uid === ownUid() + 1 })).toEqual([]);
    processes.signal(identity, 'SIGKILL');
  });

  it('is signalled by its number and start time together, never by the number alone', async () => {
    const { identity, exited } = await processes.startDetached({
      command: '/bin/sleep',
      args: ['60'],
      logFile: join(folder, 'log'),
      cwd: '/',
    });
    const { pid, startTicks } = identity;
    expect(native().signalProcess(pid, String(Number(startTicks) - 1), constants.signals.SIGKILL)).toBe(false);
    expect(processes.isAlive(identity)).toBe(true);
    expect(native().signalProcess(pid, startTicks, constants.signals.SIGTERM)).toBe(true);
    expect((await exited).signal).toBe('SIGTERM');
    expect(native().signalProcess(pid, startTicks, constants.signals.SIGKILL)).toBe(false);
    expect(() => native().signalProcess(process.pid, processes.identify(process.pid)!.startTicks, 9999)).toThrow(/cannot signal/);
  });
});

describe('the paths of an instance', () => {
  it('are all in VMSTORAGE_HOME when it is set', () => {
    const paths = instancePaths({ VMSTORAGE_HOME: '/home/me/vms' });
    expect(paths.hostSocket).toBe('/home/me/vms/host.sock');
    expect(paths.diskSocket('05ce7544-c381-4823-b519-22e47b76ea99', 1)).toBe('/home/me/vms/run/05ce7544/d1.sock');
    expect(paths.journal('05ce7544-c381-4823-b519-22e47b76ea99')).toBe('/home/me/vms/moves/05ce7544-c381-4823-b519-22e47b76ea99.journal');
    expect(instancePaths({}).hostSocket).toBe('/run/vmstorage/host.sock');
  });

  it('are refused when a socket name would be cut, or when the home is relative', () => {
    expect(() => instancePaths({ VMSTORAGE_HOME: `/${'a'.repeat(90)}` })).toThrow(/too long for socket names/);
    expect(() => instancePaths({ VMSTORAGE_HOME: 'here' })).toThrow(/not an absolute path/);
    const longest = instancePaths({ VMSTORAGE_HOME: `/${'a'.repeat(80)}` });
    expect(Buffer.byteLength(longest.workerSocket('05ce7544-c381-4823-b519-22e47b76ea99'))).toBeLessThanOrEqual(107);
    expect(Buffer.byteLength(longest.diskSocket('05ce7544-c381-4823-b519-22e47b76ea99', 67))).toBeLessThanOrEqual(107);
  });
});
