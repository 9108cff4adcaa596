/** The subscription as clients meet it: over the real socket, many at once, slow ones, and over restarts of the host. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ClientConnection } from '../../../src/client/connection.js';
import { Changes } from '../../../src/host/changes.js';
import { watchHost } from '../../../src/host/methods/watch-host.js';
import { Places, type PlaceSystem } from '../../../src/host/places.js';
import { noRoles } from '../../../src/host/roles.js';
import { serve, type HostServer } from '../../../src/host/server.js';
import type { HostServices, Migration } from '../../../src/host/services.js';
import { silentLog } from '../../../src/os/log.js';
import { WATCH, type Bracket, type Change } from '../../../src/protocol/subscription.js';
import { reached } from '../migration/world.js';
import { makeStage, type Stage } from './stage.js';

let stage: Stage;
let server: HostServer;
let socket: string;
/** Stands for what the moves say: the object of a move is whatever is in here. */
const moves = new Map<string, { percent: number; padding: string }>();
let changes: Changes;
const handlers = { under: 0 };

async function startHost(): Promise<void> {
  changes = new Changes();
  const noPlaces: PlaceSystem = { mountinfo: async () => '', diskstats: async () => '', room: async () => null };
  const migration: Migration = {
    ...stage.migration,
    shown: (id) => {
      const move = moves.get(id);
      return move ? { $t: 'VMStorageMove', MoveId: id, PercentComplete: move.percent, Message: move.padding } : null;
    },
    shownIds: () => [...moves.keys()],
  };
  const watch = watchHost(stage.services, migration, changes, new Places(() => 0, noPlaces))[WATCH]!;
  server = await serve([{ path: socket, group: null, connectionsMost: 512 }], {
    methods: {
      [WATCH]: async (context) => {
        handlers.under++;
        await watch(context).finally(() => handlers.under--);
      },
    },
    peerOf: async () => null,
    roles: noRoles,
    complete: async () => [],
    version: '1',
    definitions: '',
    clock: stage.services.clock,
    log: silentLog,
  });
}

beforeEach(async () => {
  stage = await makeStage();
  socket = join(stage.folder, 'host.sock');
  moves.clear();
  await startHost();
  stage.services.registry.subscribe((vmId) => changes.note('machine', vmId));
});
const clients: Subscriber[] = [];
afterEach(async () => {
  for (const client of clients.splice(0)) client.connection.close();
  await server.close();
  await stage.end();
});

class Subscriber {
  readonly told: (Change | Bracket)[] = [];
  private constructor(readonly connection: ClientConnection) {}

  static async open(): Promise<Subscriber> {
    const connection = await ClientConnection.open(socket);
    await connection.greet('test');
    await connection.send({ k: 'begin', cmdlet: WATCH, cwd: '/', prefs: { verbose: false, debug: false, progress: false } });
    await connection.send({ k: 'process', seq: 1, parameterSet: '', bound: {} });
    const subscriber = new Subscriber(connection);
    clients.push(subscriber);
    return subscriber;
  }

  /** Reads on until `enough`; whoever does not call it does not read. */
  async until(enough: (told: Change | Bracket) => boolean): Promise<void> {
    for (;;) {
      const message = await this.connection.receive();
      if (message?.k !== 'output') throw new Error(`the subscription ended: ${JSON.stringify(message)}`);
      const told = message.v as unknown as Change | Bracket;
      this.told.push(told);
      if (enough(told)) return;
    }
  }

  current(): Promise<void> {
    return this.until((told) => told.$t === 'Bracket' && told.at === 'current');
  }
}

const isMove = (id: string, percent: number) => (told: Change | Bracket) =>
  told.$t === 'Change' && told.id === id && told.value?.['PercentComplete'] === percent;

test('first all there is, once each, between two brackets; then what changes, and what is gone', async () => {
  await stage.run('New-VM', { Name: 'web01', Path: stage.folder, Generation: 2 });
  moves.set('m1', { percent: 5, padding: '' });
  const client = await Subscriber.open();
  await client.current();
  const vmId = stage.services.registry.find('web01')[0]!.configuration.id;
  expect(client.told.map((told) => (told.$t === 'Change' ? `${told.kind} ${told.id}` : told.at))).toEqual([
    'begin',
    'host host',
    `machine ${vmId}`,
    'move m1',
    'current',
  ]);
  await stage.run('Set-VM', { Name: 'web01', NewVMName: 'web02' });
  await client.until((told) => told.$t === 'Change' && told.value?.['Name'] === 'web02');
  await stage.run('Set-VMHost', { MaximumStorageMigrations: 7 });
  await client.until((told) => told.$t === 'Change' && told.value?.['MaximumStorageMigrations'] === 7);
  await stage.run('Remove-VM', { Name: 'web02', Force: true });
  await client.until((told) => told.$t === 'Change' && told.id === vmId && told.value === null);
});

test('a machine whose disk is gone is told to be so, as by Get-VM, and looked at again only when it has other files', async () => {
  const disk = join(stage.folder, 'web01.vhdx');
  await writeFile(disk, 'image');
  await stage.run('New-VM', { Name: 'web01', Path: stage.folder, Generation: 2, VHDPath: disk });
  const asked: string[][] = [];
  const fileTrouble: HostServices['fileTrouble'] = async (machines) => {
    asked.push(machines.map(({ configuration }) => configuration.name));
    return new Map(machines.map(({ configuration }) => [configuration.id, ['Disk 0 cannot be found']]));
  };
  Object.assign(stage.services, { fileTrouble });
  const client = await Subscriber.open();
  await client.current();
  const vmId = stage.services.registry.find('web01')[0]!.configuration.id;
  const machine = client.told.find((told) => told.$t === 'Change' && told.id === vmId) as Change;
  expect(machine.value).toMatchObject({ Status: expect.stringContaining('Disk 0 cannot be found') as string });
  changes.note('machine', vmId);
  await client.until((told) => told.$t === 'Change' && told.id === vmId);
  expect(asked).toEqual([['web01']]);
  await stage.run('Set-VM', { Name: 'web01', NewVMName: 'web02' });
  await client.until((told) => told.$t === 'Change' && told.value?.['Name'] === 'web02');
  expect(asked).toEqual([['web01'], ['web02']]);
});

test('a machine whose configuration cannot be used is told as a fault, and is none any more when it is forgotten', async () => {
  await stage.run('New-VM', { Name: 'web01', Path: stage.folder, Generation: 2 });
  const { configuration, configurationFile } = stage.services.registry.find('web01')[0]!;
  const fault = { vmId: configuration.id, configurationFile, reason: 'it is not JSON' };
  let faults = [fault];
  Object.assign(stage.services.registry, { faults: () => faults });
  const client = await Subscriber.open();
  await client.current();
  const told = client.told.find((one) => one.$t === 'Change' && one.kind === 'fault') as Change;
  expect(told).toMatchObject({ id: configuration.id, value: { $t: 'Fault', ...fault } });
  faults = [];
  changes.note('machine', configuration.id);
  await client.until((one) => one.$t === 'Change' && one.kind === 'fault' && one.value === null);
});

test('a hundred subscribers are all told, and none is left when they are gone', async () => {
  const many = await Promise.all(Array.from({ length: 100 }, () => Subscriber.open()));
  await Promise.all(many.map((one) => one.current()));
  moves.set('m1', { percent: 50, padding: '' });
  changes.note('move', 'm1');
  await Promise.all(many.map((one) => one.until(isMove('m1', 50))));
  expect(handlers.under).toBe(100);
  for (const one of many) one.connection.close();
  await reached(() => handlers.under === 0);
  expect(changes.listeners).toBe(0);
});

test('one that does not read holds nobody up, and finds the last state instead of a queue of old ones', async () => {
  const [slow, quick] = [await Subscriber.open(), await Subscriber.open()];
  await slow.current();
  await quick.current();
  const padding = 'x'.repeat(100_000); // a socket takes some of these, then the host waits for this client
  for (let percent = 1; percent <= 100; percent++) {
    moves.set('m1', { percent, padding });
    changes.note('move', 'm1');
    await quick.until(isMove('m1', percent));
  }
  await slow.until(isMove('m1', 100));
  expect(quick.told.filter((told) => told.$t === 'Change' && told.id === 'm1')).toHaveLength(100);
  expect(slow.told.filter((told) => told.$t === 'Change' && told.id === 'm1').length).toBeLessThan(50);
});

test('the end of the host ends it; asked again it has the state first, with what changed in between', async () => {
  moves.set('m1', { percent: 10, padding: '' });
  const before = await Subscriber.open();
  await before.current();
  await server.close();
  await expect(before.until(() => false)).rejects.toThrow('the subscription ended');
  moves.set('m1', { percent: 60, padding: '' });
  moves.set('m2', { percent: 0, padding: '' });
  await startHost();
  const after = await Subscriber.open();
  await after.current();
  expect(after.told.flatMap((told) => (told.$t === 'Change' && told.kind === 'move' ? [told.value] : []))).toMatchObject([
    { MoveId: 'm1', PercentComplete: 60 },
    { MoveId: 'm2', PercentComplete: 0 },
  ]);
});
