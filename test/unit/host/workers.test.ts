/** Supervision of worker processes, with a worker that speaks the contract and serves nothing. */
import { VmStorageError } from '../../../src/model/errors.js';
import { mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { systemClock, waitUntil } from '../../../src/os/clock.js';
import { outsideLook } from '../../../src/os/outside-look.js';
import { heldFolders } from '../../../src/native/held-folders.js';
import { systemFiles } from '../../../src/os/files.js';
import { silentLog } from '../../../src/os/log.js';
import { instancePaths, type InstancePaths } from '../../../src/os/paths.js';
import { systemProcesses as processes } from '../../../src/os/processes.js';
import { openRegistry, type Registry, type VmRecord } from '../../../src/registry/registry.js';
import { HostWorkers } from '../../../src/host/workers.js';
import { vmConfiguration } from '../../support/vm-configuration.js';

vi.setConfig({ testTimeout: 30_000 }); // processes are started, on machines that are busy

const ID = 'aaaaaaaa-0000-4000-8000-000000000001';
const script = fileURLToPath(new URL('./fake-worker.mjs', import.meta.url));
let folder: string;
let control: string;
let paths: InstancePaths;
let registry: Registry;
let vm: VmRecord;
let inUse: boolean;
/** What the records of its move say against serving it. */
let against: string | null;
const all: HostWorkers[] = [];

/** Renamed into place: the worker reads it at any moment. */
const set = async (what: object): Promise<void> => {
  await writeFile(`${control}.new`, JSON.stringify(what));
  await rename(`${control}.new`, control);
};
const serves = async () =>
  (await readFile(`${control}.serves`, 'utf8').catch(() => ''))
    .trim()
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as { pid: number; journalPath: string; disks: { path: string }[] });
function workers(): HostWorkers {
  const made = new HostWorkers({
    program: { command: [process.execPath, script, '--control', control] },
    processes,
    clock: systemClock,
    log: silentLog,
    paths,
    registry,
    records: {
      judge: async () => {
        if (against !== null) throw new VmStorageError('InvalidState', against);
      },
      refuseUnreadable: (_, cause) => Promise.reject(cause as Error),
    },
    inUse: () => inUse,
  });
  all.push(made);
  return made;
}
const until = async (what: string, condition: () => Promise<boolean> | boolean): Promise<void> => {
  if (!(await waitUntil(systemClock, 15_000, 10, async () => ((await condition()) ? true : undefined))))
    throw new Error(`not within 15 s: ${what}`);
};
const alive = () => processes.find((line) => line.includes(paths.workerSocket(ID)));

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vmst-w-'));
  control = join(folder, 'control');
  await set({});
  paths = instancePaths({ VMSTORAGE_HOME: folder });
  await systemFiles.makeFolders(paths.runFolder);
  await systemFiles.makeFolders(paths.logsFolder);
  registry = await openRegistry(paths, systemFiles, heldFolders, silentLog, outsideLook());
  inUse = true;
  against = null;
  vm = await registry.add(
    vmConfiguration(folder, {
      id: ID,
      generation: 1,
      disks: [
        {
          id: 'bbbbbbbb-0000-4000-8000-000000000001',
          controllerType: 'IDE',
          controllerNumber: 0,
          controllerLocation: 0,
          path: '/disks/a.vhdx',
          format: 'vhdx',
          passThrough: false,
        },
        {
          id: 'bbbbbbbb-0000-4000-8000-000000000002',
          controllerType: 'IDE',
          controllerNumber: 0,
          controllerLocation: 1,
          path: '/dev/sdb',
          format: 'raw',
          passThrough: true,
        },
      ],
    }),
    null,
  );
});
afterEach(async () => {
  for (const one of all.splice(0)) one.close();
  for (const one of alive()) processes.signal(one, 'SIGKILL');
  await rm(folder, { recursive: true, force: true });
});

describe('the worker of a VM', () => {
  it('is started once for all who ask, and serves the disks that are not passed through, with the journal', async () => {
    const host = workers();
    const [one, other] = await Promise.all([host.forVm(vm), host.forVm(vm)]);
    expect(one).toBe(other);
    expect(alive().map((found) => found.pid)).toEqual([one.pid]);
    expect(await serves()).toMatchObject([
      { journalPath: paths.journal(ID), disks: [{ index: 0, path: '/disks/a.vhdx', vhostUserSocket: paths.diskSocket(ID, 0) }] },
    ]);
    expect(host.health(ID)).toMatchObject({ state: 'serving', restarts: 0, trouble: null });
  });

  it('is told to offer as many queues as the VM has processors, up to 64', async () => {
    const host = workers();
    const queues = (processorCount: number): number[] =>
      host.servedDisks({ ...vm, configuration: { ...vm.configuration, processorCount } }).map((served) => served.queues);
    expect([1, 4, 64, 240].map(queues)).toEqual([[1], [4], [64], [64]]);
    await host.forVm(await registry.update({ ...vm.configuration, processorCount: 4 }));
    expect(await serves()).toMatchObject([{ disks: [{ queues: 4 }] }]);
  });

  it('is started again when it dies, tells so, counts it, and the same object goes on', async () => {
    const host = workers();
    const client = await host.forVm(vm);
    const events: string[] = [];
    client.subscribe((event) => events.push(event.event));
    const first = client.pid!;
    process.kill(first, 'SIGKILL');
    await until('a new process', () => client.pid !== null && client.pid !== first);
    expect(events).toEqual(['lost', 'restored']);
    expect(host.health(ID)).toMatchObject({ state: 'serving', restarts: 1 });
    expect((await client.call('status', {})).pid).toBe(client.pid);
    expect((await serves()).map((serve) => serve.journalPath)).toEqual([paths.journal(ID), paths.journal(ID)]);
  });

  it('that cannot serve again says why, is tried again for as long as it takes, and serves when it can', async () => {
    const host = workers();
    const client = await host.forVm(vm);
    await set({ refuseServe: "'/disks/a.vhdx' is not there" });
    process.kill(client.pid!, 'SIGKILL');
    await until('the reason', () => /attempt \d+.*'\/disks\/a.vhdx' is not there/.test(host.health(ID).trouble ?? ''));
    expect(host.health(ID).state).toBe('restarting');
    const waiting = client.call('status', {});
    await set({});
    expect((await waiting).disks).toHaveLength(1);
    expect(host.health(ID)).toMatchObject({ state: 'serving', trouble: null });
  });

  it('that cannot serve is not attempted while what it serves is being changed, and at once when it was, however long the next wait', async () => {
    const host = workers();
    const client = await host.forVm(vm);
    against = 'the records contradict each other';
    process.kill(client.pid!, 'SIGKILL');
    // The next wait is over 3 s by then.
    await until('some attempts', () => host.health(ID).restarts >= 6);
    const before = (await serves()).length;
    await host.betweenAttempts(ID, async () => {
      against = null;
      await systemClock.sleep(50);
      expect(host.health(ID).state).toBe('restarting');
    });
    const { restarts } = host.health(ID);
    expect(await waitUntil(systemClock, 2_500, 10, async () => (host.health(ID).state === 'serving' ? true : undefined))).toBe(true);
    expect(host.health(ID).restarts - restarts).toBeLessThanOrEqual(1);
    expect((await serves()).length).toBe(before + 1);
    await expect(host.betweenAttempts(ID, async () => undefined)).rejects.toThrow('are being served by now');
  });

  it('that cannot serve the first time is an error of who asked, and nothing is left', async () => {
    await set({ refuseServe: 'the image is damaged: region table' });
    const host = workers();
    await expect(host.forVm(vm)).rejects.toMatchObject({ code: 'StorageFailure', message: 'the image is damaged: region table' });
    expect(host.health(ID).state).toBe('none');
    await until('no process', () => alive().length === 0);
    await set({ exitAtStart: true });
    await expect(host.forVm(vm)).rejects.toThrow(/could not be started.*worker\.log/);
    expect(await readFile(paths.vmLog(ID, 'worker'), 'utf8')).toContain('cannot start');
  });

  it('outlives its host: the next one finds the same process and does not tell it to serve again', async () => {
    const pid = (await workers().forVm(vm)).pid;
    all.splice(0).forEach((host) => host.close());
    const host = workers();
    await host.adopt(ID, true);
    expect(host.peek(ID)?.pid).toBe(pid);
    expect(await serves()).toHaveLength(1);
  });

  it('that died while no host was there is started again for a guest that waits, and only for one', async () => {
    process.kill((await workers().forVm(vm)).pid!, 'SIGKILL');
    all.splice(0).forEach((host) => host.close());
    await until('its end', () => alive().length === 0);
    expect(await workers().adopt(ID, false)).toBe(false);
    expect(alive()).toEqual([]);
    const host = workers();
    await host.adopt(ID, true);
    expect(host.health(ID).state).toBe('serving');
  });

  it('is released only when nothing needs it, in order, and its socket is gone', async () => {
    const host = workers();
    await host.forVm(vm);
    await host.release(ID);
    expect(alive()).toHaveLength(1);
    inUse = false;
    await set({ refuseShutdown: true });
    await host.release(ID);
    expect(alive()).toEqual([]);
    await expect(stat(paths.workerSocket(ID))).rejects.toThrow(/ENOENT/);
    expect(host.peek(ID)).toBeNull();
    await set({});
    inUse = true;
    expect((await host.forVm(vm)).pid).not.toBeNull();
  });

  it('is not taken for another: a foreign process on its socket is told nothing and is reported', async () => {
    await systemFiles.makeFolders(paths.vmRunFolder(ID));
    const asked: Buffer[] = [];
    const foreign = createServer((socket) => {
      socket.on('error', () => {});
      socket.on('data', (chunk: Buffer) => {
        asked.push(chunk);
        const body = Buffer.from(
          JSON.stringify({
            id: 1,
            result: { pid: process.pid, vmId: ID, io: '', disks: [], move: null, journal: null, longestTurn: null },
          }),
        );
        const head = Buffer.alloc(4);
        head.writeUInt32LE(body.length);
        socket.write(Buffer.concat([head, body]));
      });
    });
    await new Promise<void>((resolve) => foreign.listen(paths.workerSocket(ID), resolve));
    await expect(workers().forVm(vm)).rejects.toThrow(/A foreign process answers/);
    expect(Buffer.concat(asked).toString()).not.toContain('serve');
    await new Promise((resolve) => foreign.close(resolve));
  });

  it('tells what of its guest the storage refused, for Get-VM', async () => {
    const host = workers();
    await host.forVm(vm);
    expect(host.health(ID).diskErrors).toEqual([]);
    const at = new Date().toISOString();
    await set({ failed: { count: 49, errno: 5, text: 'Input/output error', request: 'read', offset: '4096', length: '512', at } });
    await until('the error', () => host.health(ID).diskErrors.length > 0);
    expect(host.health(ID).diskErrors).toEqual([
      { disk: 0, path: '/disks/a.vhdx', errno: 5, reason: 'Input/output error', request: 'read', offset: '4096', count: 49, at },
    ]);
  });
});

describe('a worker that does not answer', () => {
  it('says so within seconds, with the reason where the system knows one, and is no trouble once it answers', async () => {
    const host = workers();
    const client = await host.forVm(vm);
    const pid = client.pid!;
    process.kill(pid, 'SIGSTOP');
    await until('the trouble', () => host.health(ID).trouble !== null);
    expect(host.health(ID).trouble).toMatch(
      new RegExp(`^the storage worker \\(process ${pid}\\) has not answered for \\d+ s: it is stopped \\(SIGSTOP`),
    );
    expect(client.answers).toBe(false);
    process.kill(pid, 'SIGCONT');
    await until('no trouble', () => host.health(ID).trouble === null);
    expect(client).toMatchObject({ answers: true, pid });
    expect(host.health(ID)).toMatchObject({ state: 'serving', restarts: 0 });
  });

  it('is not asked to end when nothing needs it any more: it is killed', async () => {
    const host = workers();
    const client = await host.forVm(vm);
    await set({ silent: true });
    await until('the silence', () => !client.answers);
    inUse = false;
    const beganMs = performance.now();
    await host.release(ID);
    expect(performance.now() - beganMs).toBeLessThan(9_000); // it would be asked for 30 s, and waited for for 10
    expect(alive()).toEqual([]);
  });

  it('is told of while it is still being reached', async () => {
    await workers().forVm(vm);
    all.splice(0).forEach((host) => host.close());
    process.kill(alive()[0]!.pid, 'SIGSTOP');
    const host = workers();
    const adopted = host.adopt(ID, true);
    await until('the trouble', () => /does not serve yet, after \d+ s/.test(host.health(ID).trouble ?? ''));
    process.kill(alive()[0]!.pid, 'SIGCONT');
    expect(await adopted).toBe(true);
    expect(host.health(ID).trouble).toBeNull();
  });
});

describe('where there is no room for a log', () => {
  it('a worker is started all the same', async () => {
    await systemFiles.makeFolders(paths.logsFolder);
    await rm(paths.vmLogFolder(ID), { recursive: true, force: true });
    const full: typeof processes = {
      ...processes,
      startDetached: (command) => processes.startDetached({ ...command, logFile: join(folder, 'not', 'made', 'worker.log') }),
    };
    const host = new HostWorkers({
      program: { command: [process.execPath, script, '--control', control] },
      processes: full,
      clock: systemClock,
      log: silentLog,
      paths,
      registry,
      records: {
        judge: async () => {
          if (against !== null) throw new VmStorageError('InvalidState', against);
        },
        refuseUnreadable: (_, cause) => Promise.reject(cause as Error),
      },
      inUse: () => inUse,
    });
    all.push(host);
    expect((await host.forVm(vm)).pid).not.toBeNull();
  });
});

describe('a tool worker', () => {
  it('lives as long as its use, at most four at a time', async () => {
    const host = workers();
    let now = 0;
    let most = 0;
    await Promise.all(
      Array.from({ length: 6 }, () =>
        host.tool(async (tool) => {
          most = Math.max(most, ++now);
          await tool.call('status', {});
          now--;
        }),
      ),
    );
    expect(most).toBeLessThanOrEqual(4);
    expect(processes.find((line) => line.includes('--tool') && line.some((word) => word.startsWith(folder)))).toEqual([]);
    await expect(host.tool(() => Promise.reject(new Error('its use failed')))).rejects.toThrow('its use failed');
  });
});
