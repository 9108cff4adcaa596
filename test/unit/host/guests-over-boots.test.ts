/** AutomaticStartAction, -StartDelay and -StopAction: which guests are stopped before the system stops, and which are started after it. */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AutomaticStart } from '../../../src/host/automatic-start.js';
import { stopGuests, type GuestEnd } from '../../../src/host/automatic-stop.js';
import { hostCommands } from '../../../src/host/methods/host-commands.js';
import type { CmdletContext, HostServices } from '../../../src/host/services.js';
import { VmStorageError } from '../../../src/model/errors.js';
import type { Clock } from '../../../src/os/clock.js';
import { systemFiles } from '../../../src/os/files.js';
import { silentLog } from '../../../src/os/log.js';
import { START_GUESTS, STOP_GUESTS } from '../../../src/protocol/host-commands.js';
import { openRunning, type RunningRecord } from '../../../src/registry/running.js';
import { until } from '../../support/until.js';
import { makeStage, type Stage } from './stage.js';

let stage: Stage;
/** Sleepers by what they wait for, in ms; time passes when a test says so. */
let sleepers: { delayMs: number; wake: () => void }[];
let services: HostServices;
let hosts: AutomaticStart[];
let running: RunningRecord;
beforeEach(async () => {
  stage = await makeStage();
  sleepers = [];
  hosts = [];
  const clock: Clock = {
    ...stage.services.clock,
    sleep: (delayMs, signal) =>
      delayMs === 0
        ? Promise.resolve()
        : new Promise((resolve, reject) => {
            sleepers.push({ delayMs, wake: resolve });
            signal?.addEventListener('abort', () => reject(new Error('aborted')));
          }),
  };
  services = { ...stage.services, clock };
  // What Get-VM reads is the record of the host that begins last.
  running = stage.services.running;
  Object.defineProperty(stage.services, 'running', { get: () => running });
});
afterEach(async () => {
  for (const host of hosts) host.close();
  await stage.end();
});

type Action = 'Nothing' | 'StartIfRunning' | 'Start';
async function machine(name: string, action: Action, more: object = {}): Promise<string> {
  await stage.run('New-VM', { Name: name, Path: stage.folder });
  expect((await stage.run('Set-VM', { Name: [name], AutomaticStartAction: action, ...more })).errors).toEqual([]);
  return services.registry.find(name)[0]!.configuration.id;
}

/** A host begins on that start of the system. */
async function host(system: string): Promise<{ automatic: AutomaticStart; record: RunningRecord }> {
  const record = await openRunning(services.paths, systemFiles, silentLog, system);
  running = record;
  const automatic = new AutomaticStart(services, record, system);
  hosts.push(automatic);
  await automatic.begin();
  return { automatic, record };
}

const started = (): string[] =>
  stage.calls
    .filter((call) => call.startsWith('start '))
    .map((call) => call.slice('start '.length))
    .sort();
const written = async () => JSON.parse(await readFile(services.paths.runningFile, 'utf8')) as { [name: string]: unknown };
const nothingWaits = (record: RunningRecord) => until('nothing waits any more', () => record.current?.waiting.length === 0 || undefined);

describe('after a boot', () => {
  it.each<[string, Action, string, boolean, boolean]>([
    ['ran', 'Nothing', 'stays off', true, false],
    ['ran', 'StartIfRunning', 'is started', true, true],
    ['ran', 'Start', 'is started', true, true],
    ['was off', 'Nothing', 'stays off', false, false],
    ['was off', 'StartIfRunning', 'stays off', false, false],
    ['was off', 'Start', 'is started', false, true],
  ])('a guest that %s, with %s, %s', async (_, action, _end, ran, isStarted) => {
    const vmId = await machine('web01', action);
    const first = await host('boot 1');
    if (ran) first.automatic.note(vmId, 'Running');
    await until('it is written down', async () => ((await written())['running'] as string[]).includes(vmId) === ran || undefined);
    first.automatic.close(); // and the power goes
    const { record } = await host('boot 2');
    await nothingWaits(record);
    expect(started()).toEqual(isStarted ? ['web01'] : []);
    stage.calls.length = 0;
    await nothingWaits((await host('boot 2')).record); // a host that is started again finds the same system
    expect(started()).toEqual([]);
  });

  it('a guest that was turned off by a person before it is off', async () => {
    const vmId = await machine('web01', 'StartIfRunning');
    const { automatic, record } = await host('boot 1');
    for (const state of ['Starting', 'Running', 'Stopping'] as const) automatic.note(vmId, state);
    await record.change((old) => old); // behind the others
    expect(await written()).toMatchObject({ running: [vmId] });
    automatic.note(vmId, 'Off');
    await record.change((old) => old);
    await nothingWaits((await host('boot 2')).record);
    expect(started()).toEqual([]);
  });

  it('a guest waits for its delay, and a host that is started again meanwhile lets it wait again', async () => {
    await machine('web01', 'Start', { AutomaticStartDelay: 90 });
    await host('boot 1');
    await host('boot 2');
    expect(sleepers.map(({ delayMs }) => delayMs)).toEqual([90_000]);
    hosts.at(-1)!.close();
    const { record } = await host('boot 2');
    expect(sleepers.map(({ delayMs }) => delayMs)).toEqual([90_000, 90_000]);
    expect(started()).toEqual([]);
    const shown = async () => (await stage.run('Get-VM')).output.map((vm) => [vm['State'], vm['Status'], vm['OperationalStatus']])[0];
    expect(await shown()).toEqual(['Off', 'Waiting to start', ['WaitingToStart']]);
    sleepers.at(-1)!.wake();
    await nothingWaits(record);
    expect(started()).toEqual(['web01']);
    expect(await shown()).toEqual(['Running', 'Operating normally', ['Ok']]);
  });

  it('what a person says meanwhile counts', async () => {
    await machine('web01', 'Start', { AutomaticStartDelay: 1 });
    await host('boot 1');
    const { record } = await host('boot 2');
    await stage.run('Set-VM', { Name: ['web01'], AutomaticStartAction: 'Nothing' });
    sleepers[0]!.wake();
    await nothingWaits(record);
    expect(started()).toEqual([]);
  });

  it('a guest that cannot be started yet is tried again, a few times', async () => {
    await writeFile(`${stage.folder}/a.img`, '');
    await machine('web01', 'Start');
    await stage.run('Add-VMHardDiskDrive', { VMName: ['web01'], Path: `${stage.folder}/a.img` });
    await host('boot 1');
    stage.workerFails = new VmStorageError('ObjectNotFound', 'its file system is not mounted');
    const { record } = await host('boot 2');
    for (const delayMs of [5_000, 15_000]) {
      await until(`it waits ${delayMs} ms`, () => sleepers.at(-1)?.delayMs === delayMs || undefined);
      sleepers.at(-1)!.wake();
    }
    await until('it waits for the last time', () => sleepers.at(-1)?.delayMs === 45_000 || undefined);
    stage.workerFails = null;
    sleepers.at(-1)!.wake();
    await nothingWaits(record);
    expect(started()).toEqual(['web01']);
  });

  it.each([
    ['missing', null],
    ['damaged', '{"schema":1,"system":"boot 1"'],
    ['of another schema', '{"schema":2,"system":"boot 1","running":[],"stopped":[],"waiting":[]}'],
  ])('nothing is started where the record is %s: nobody knows that it was one', async (_, text) => {
    await machine('web01', 'Start');
    await host('boot 1');
    if (text === null) await rm(services.paths.runningFile);
    else await writeFile(services.paths.runningFile, text);
    const { record } = await host('boot 2');
    await nothingWaits(record);
    expect(started()).toEqual([]);
    expect(await written()).toMatchObject({ system: 'boot 2' });
  });

  it('a record that cannot be written keeps no guest from being started', async () => {
    const vmId = await machine('web01', 'StartIfRunning');
    const { automatic } = await host('boot 1');
    automatic.note(vmId, 'Running');
    await until('it is written down', async () => ((await written())['running'] as string[]).length === 1 || undefined);
    const record = await openRunning(
      services.paths,
      { ...systemFiles, replace: () => Promise.reject(new Error('ENOSPC')) },
      silentLog,
      'boot 2',
    );
    const again = new AutomaticStart(services, record, 'boot 2');
    hosts.push(again);
    await again.begin();
    await nothingWaits(record);
    expect(started()).toEqual(['web01']);
  });
});

describe('before the system stops', () => {
  async function stop(record: RunningRecord): Promise<GuestEnd[]> {
    const ends: GuestEnd[] = [];
    await stopGuests(services, record, 1_000, async (end) => void ends.push(end));
    return ends;
  }

  it('a guest is shut down or turned off, as it says; who does not obey is turned off', async () => {
    const [polite, blunt, deaf] = [
      await machine('polite', 'Start'),
      await machine('blunt', 'Start', { AutomaticStopAction: 'TurnOff' }),
      await machine('deaf', 'Start'),
    ];
    await machine('off', 'Start');
    for (const vmId of [polite, blunt, deaf]) stage.states.set(vmId, 'Running');
    const before = services.hypervisor;
    const obedient = {
      ...services.hypervisor,
      shutDown: (vmId: string, limitMs: number) => (vmId === deaf ? Promise.resolve(false) : before.shutDown(vmId, limitMs)),
    };
    services = { ...services, hypervisor: obedient };
    const ends = await stop((await host('boot 1')).record);
    expect(Object.fromEntries(ends.map(({ name, how }) => [name, how]))).toEqual({
      polite: 'shut down',
      blunt: 'turned off',
      deaf: 'turned off, for it did not shut down in time',
    });
    expect([polite, blunt, deaf].map((vmId) => stage.states.get(vmId))).toEqual(['Off', 'Off', 'Off']);
    expect(stage.calls.filter((call) => call === 'power button')).toHaveLength(1);
  });

  it('a guest whose power button cannot be pressed is turned off, and one that is paused goes on first', async () => {
    const [broken, paused] = [await machine('broken', 'Start'), await machine('paused', 'Start')];
    stage.states.set(broken, 'Running');
    stage.states.set(paused, 'Paused');
    const seen: string[] = [];
    const hypervisor: HostServices['hypervisor'] = {
      ...services.hypervisor,
      shutDown: (vmId) => {
        seen.push(`${vmId === paused ? 'paused' : 'broken'} is ${stage.states.get(vmId)}`);
        return Promise.reject(new VmStorageError('HypervisorFailure', 'no monitor'));
      },
    };
    services = { ...services, hypervisor };
    await stop((await host('boot 1')).record);
    expect(seen.sort()).toEqual(['broken is Running', 'paused is Running']);
    expect([stage.states.get(broken), stage.states.get(paused)]).toEqual(['Off', 'Off']);
  });

  it('a guest that cannot be stopped is told, and the others are stopped', async () => {
    const [stuck, fine] = [await machine('stuck', 'Start'), await machine('fine', 'Start')];
    for (const vmId of [stuck, fine]) stage.states.set(vmId, 'Running');
    stage.obeys = false;
    const before = services.hypervisor;
    const hypervisor: HostServices['hypervisor'] = {
      ...services.hypervisor,
      turnOff: (vmId) =>
        vmId === stuck ? Promise.reject(new VmStorageError('HypervisorFailure', 'it waits in the kernel')) : before.turnOff(vmId),
    };
    services = { ...services, hypervisor };
    const ends = await stop((await host('boot 1')).record);
    expect(ends.map(({ name, error }) => [name, error?.code]).sort()).toEqual([
      ['fine', undefined],
      ['stuck', 'HypervisorFailure'],
    ]);
  });

  it('a state folder that hangs, and a worker that does not end, keep no guest from being shut down', async () => {
    const vmId = await machine('web01', 'Start');
    const { record } = await host('boot 1');
    stage.states.set(vmId, 'Running');
    services = { ...services, workers: { ...services.workers, release: () => Promise.reject(new Error('it does not end')) } };
    const stopping = stop({ current: record.current, change: () => new Promise(() => {}) });
    await until('it waits for the record', () => sleepers.at(-1)?.delayMs === 5_000 || undefined);
    sleepers.at(-1)!.wake();
    expect(await stopping).toMatchObject([{ name: 'web01', how: 'shut down', error: null }]);
    expect(stage.states.get(vmId)).toBe('Off');
  });

  it('which guests ran is known after the boot, though they were off when it came', async () => {
    const [ran] = [await machine('ran', 'StartIfRunning'), await machine('did not', 'StartIfRunning')];
    const { automatic, record } = await host('boot 1');
    stage.states.set(ran, 'Running');
    automatic.note(ran, 'Running');
    await stop(record);
    for (const state of ['Stopping', 'Off'] as const) automatic.note(ran, state);
    await record.change((old) => old); // behind the others
    automatic.close();
    await nothingWaits((await host('boot 1')).record); // the host's service was restarted on the way down
    expect(started()).toEqual([]);
    await nothingWaits((await host('boot 2')).record);
    expect(started()).toEqual(['ran']);
  });

  it('start-guests starts those again that were stopped so, by their action, and else nothing', async () => {
    const [again, never] = [await machine('again', 'StartIfRunning'), await machine('never', 'Nothing')];
    await machine('off', 'Start');
    const { automatic, record } = await host('boot 1');
    for (const vmId of [again, never]) {
      stage.states.set(vmId, 'Running');
      automatic.note(vmId, 'Running');
    }
    const told: string[] = [];
    const ask = (name: string, bound: { [name: string]: number } = {}): Promise<void> =>
      hostCommands(services, record, automatic)[name]!({
        bound,
        information: async (text: string) => void told.push(text),
        error: (error: VmStorageError) => Promise.reject(error),
      } as unknown as CmdletContext);
    await ask(START_GUESTS);
    expect(told.splice(0)).toEqual([]);
    await expect(ask(STOP_GUESTS, { limitSeconds: 0 })).rejects.toMatchObject({ code: 'InvalidParameter' });
    await ask(STOP_GUESTS, { limitSeconds: 5 });
    expect(told.splice(0).sort()).toEqual(['The virtual machine "again" was shut down.', 'The virtual machine "never" was shut down.']);
    await ask(START_GUESTS);
    await nothingWaits(record);
    expect(told.splice(0)).toEqual(['The virtual machine "again" is being started.']);
    expect(started()).toEqual(['again']);
    await ask(START_GUESTS);
    expect(told).toEqual([]);
  });
});

describe('Set-VM', () => {
  it('keeps action and delay, and refuses what is not acted upon', async () => {
    const vmId = await machine('web01', 'Start', { AutomaticStartDelay: 30, AutomaticStopAction: 'TurnOff' });
    expect((await stage.run('Get-VM')).output[0]).toMatchObject({
      AutomaticStartAction: 'Start',
      AutomaticStartDelay: 30,
      AutomaticStopAction: 'TurnOff',
    });
    for (const [bound, code] of [
      [{ AutomaticStopAction: 'Save' }, 'NotImplemented'],
      [{ AutomaticStartDelay: -1 }, 'InvalidParameter'],
      [{ AutomaticStartDelay: 86_401 }, 'InvalidParameter'],
    ] as const) {
      expect((await stage.run('Set-VM', { Name: ['web01'], ...bound })).errors).toMatchObject([{ code }]);
    }
    expect(services.registry.byId(vmId)!.configuration).toMatchObject({ automaticStartDelaySeconds: 30, automaticStopAction: 'TurnOff' });
  });

  it('is not needed for what Hyper-V does by itself: a new machine is started again if it ran', async () => {
    await stage.run('New-VM', { Name: 'new', Path: stage.folder });
    expect((await stage.run('Get-VM')).output[0]).toMatchObject({
      AutomaticStartAction: 'StartIfRunning',
      AutomaticStartDelay: 0,
      AutomaticStopAction: 'ShutDown',
    });
  });
});
