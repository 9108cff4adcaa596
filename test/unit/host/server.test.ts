/** The host's socket as clients, good and bad, meet it. */
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { lockInstance } from '../../../src/host/instance-lock.js';
import { peerOf } from '../../../src/host/peer.js';
import { noRoles } from '../../../src/host/roles.js';
import { serve, type HostServer } from '../../../src/host/server.js';
import type { CmdletContext } from '../../../src/host/services.js';
import { VmStorageError } from '../../../src/model/errors.js';
import { systemClock } from '../../../src/os/clock.js';
import { silentLog, type Log } from '../../../src/os/log.js';
import { encodeFrame, FrameDecoder } from '../../../src/protocol/frames.js';

/** What the host's log got. */
const logged: { level: string; text: string; [field: string]: unknown }[] = [];
const logTo =
  (level: string) =>
  (fields: object, text: string): void =>
    void logged.push({ level, text, ...fields });
const log: Log = { debug: logTo('debug'), info: logTo('info'), warn: logTo('warn'), error: logTo('error'), child: () => log };
let folder: string;
let path: string;
let server: HostServer;
let handler: (context: CmdletContext) => Promise<void>;
const clients: Client[] = [];

class Client {
  readonly received: Record<string, unknown>[] = [];
  readonly closed: Promise<void>;
  readonly #waiting: (() => void)[] = [];
  private constructor(readonly socket: Socket) {
    const decoder = new FrameDecoder();
    socket.on('data', (chunk: Buffer) => {
      for (const message of decoder.push(chunk)) this.received.push(message as Record<string, unknown>);
      this.#waiting.splice(0).forEach((wake) => wake());
    });
    socket.on('error', () => {});
    this.closed = new Promise((resolve) =>
      socket.on('close', () => {
        this.#waiting.splice(0).forEach((wake) => wake());
        resolve();
      }),
    );
  }
  static async open(): Promise<Client> {
    const socket = connect(path);
    await new Promise((resolve) => socket.once('connect', resolve));
    const client = new Client(socket);
    clients.push(client);
    return client;
  }
  static async begun(): Promise<Client> {
    const client = await Client.open();
    client.say(
      { k: 'hello', v: 1, pid: 1, client: 'test' },
      { k: 'begin', cmdlet: 'Get-VM', cwd: '/', prefs: { verbose: true, debug: false, progress: true } },
    );
    return client;
  }
  say(...messages: object[]): void {
    this.socket.write(Buffer.concat(messages.map(encodeFrame)));
  }
  async until(kind: string): Promise<Record<string, unknown>> {
    for (;;) {
      const found = this.received.find((message) => message['k'] === kind);
      if (found) return found;
      if (this.socket.destroyed) throw new Error(`closed before '${kind}': ${JSON.stringify(this.received)}`);
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }
}
const record = (seq: number, bound: object = {}) => ({ k: 'process', seq, parameterSet: 'Name', bound });

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vmst-s-'));
  path = join(folder, 'host.sock');
  handler = async (context) => context.output({ $t: 'VirtualMachine', Name: String(context.bound['Name'] ?? '') });
  const complete = async (_: string, word: string) => [{ text: `${word}01`, tip: '' }];
  server = await serve([{ path, group: null, connectionsMost: 512 }], {
    methods: { 'Get-VM': (context) => handler(context) },
    peerOf,
    roles: noRoles,
    complete,
    version: '1',
    definitions: 'sha256:x',
    clock: systemClock,
    log,
  });
});
afterEach(async () => {
  logged.length = 0;
  clients.splice(0).forEach((client) => client.socket.destroy());
  await server.close();
  await rm(folder, { recursive: true, force: true });
});

describe("the host's log", () => {
  it('has one line for each object that a cmdlet changes: who, by the kernel and not by what the client says, and what', async () => {
    handler = async (context) => {
      await context.shouldProcess('Move-VMStorage will move the storage of the virtual machine "web01" to "/mnt".');
      await context.shouldProcess('Move-VMStorage will move the storage of the virtual machine "web02" to "/mnt".');
    };
    const client = await Client.begun();
    client.say(record(1));
    client.say({ k: 'reply', id: (await client.until('ask'))['id'], value: true });
    await vi.waitUntil(() => client.received.filter((message) => message['k'] === 'ask').length === 2);
    client.say({ k: 'reply', id: 2, value: false }); // -WhatIf, or No
    await client.until('processed');
    const user = userInfo();
    expect(logged.filter((line) => line['audit'])).toEqual([
      {
        level: 'info',
        text: 'a change was asked for',
        audit: true,
        cmdlet: 'Get-VM',
        what: 'Move-VMStorage will move the storage of the virtual machine "web01" to "/mnt".',
        uid: user.uid,
        user: user.username,
        pid: process.pid,
        program: expect.any(String) as string,
        client: 'test',
      },
    ]);
  });

  it('has what failed above what went well', async () => {
    handler = () => Promise.reject(new VmStorageError('NoSpace', 'The disk is full.'));
    const client = await Client.begun();
    client.say(record(1));
    await client.until('error');
    expect(logged).toEqual([
      { level: 'warn', text: 'a cmdlet was refused or failed', cmdlet: 'Get-VM', code: 'NoSpace', reason: 'The disk is full.' },
    ]);
  });
});

describe("the host's socket", () => {
  it('is for its owner only, and answers hello, records in order, end and completion', async () => {
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    const client = await Client.begun();
    client.say(record(1, { Name: 'a' }), record(2, { Name: 'b' }), { k: 'end' });
    await client.until('completed');
    expect(client.received.map((message) => message['k'])).toEqual(['hello', 'output', 'processed', 'output', 'processed', 'completed']);
    expect(client.received[0]).toMatchObject({ v: 1, defs: 'sha256:x', pid: process.pid });
    const completing = await Client.open();
    completing.say({ k: 'hello', v: 1, pid: 1, client: 'test' }, { k: 'complete', kind: 'vmName', word: 'web' });
    expect(await completing.until('items')).toMatchObject({ items: [{ text: 'web01' }] });
  });

  it('makes of a refusal a record and goes on, of a failure of its own an end', async () => {
    handler = async (context) => {
      if (context.bound['Name'] === 'x') throw new VmStorageError('InvalidState', 'not now', { target: 'x' });
      if (context.bound['Name'] === 'bug') throw new TypeError('undefined is not a function');
    };
    const client = await Client.begun();
    client.say(record(1, { Name: 'x' }), record(2), record(3, { Name: 'bug' }));
    expect(await client.until('terminating')).toMatchObject({ e: { code: 'HostInternalError', category: 'NotSpecified' } });
    expect(client.received.filter((message) => message['k'] !== 'hello')).toMatchObject([
      { k: 'error', e: { errorId: 'InvalidState', category: 'InvalidOperation', target: 'x', message: 'not now' } },
      { k: 'processed', seq: 1 },
      { k: 'processed', seq: 2 },
      { k: 'terminating' },
    ]);
    await client.closed;
  });

  it('closes the connection, and nothing else, at anything it does not understand', async () => {
    const good = await Client.begun();
    const nonsense: (Buffer | object[])[] = [
      Buffer.from('GET / HTTP/1.1\r\n\r\n'),
      Buffer.from([0, 0, 0, 0]),
      Buffer.from([255, 255, 255, 127]),
      Buffer.concat([Buffer.from([3, 0, 0, 0]), Buffer.from('{{{')]),
      [{ k: 'begin', cmdlet: 'Get-VM', cwd: '/', prefs: {} }],
      [{ k: 'hello', v: '1' }],
      [{ k: 'hello', v: 1, pid: 1 }, { k: 'launch' }],
      [{ k: 'hello', v: 1, pid: 1 }, record(1)],
      [
        { k: 'hello', v: 1, pid: 1 },
        { k: 'hello', v: 1, pid: 1 },
      ],
      [{ k: 'hello', v: 1, pid: 1 }, { k: '__proto__' }],
      [[1, 2]],
      [
        { k: 'hello', v: 1, pid: 1 },
        { k: 'reply', id: 7, value: true },
      ],
    ];
    for (const bad of nonsense) {
      const client = await Client.open();
      client.socket.write(Buffer.isBuffer(bad) ? bad : Buffer.concat(bad.map(encodeFrame)));
      await client.closed;
      expect(client.received.at(-1), JSON.stringify(bad)).toMatchObject({ k: 'terminating', e: { code: 'ProtocolError' } });
    }
    good.say(record(1), { k: 'end' });
    await good.until('completed');
  });

  it('tells a client of another protocol both versions, and of an unknown cmdlet its name', async () => {
    const old = await Client.open();
    old.say({ k: 'hello', v: 99, pid: 1, client: 'test' });
    expect(await old.until('terminating')).toMatchObject({
      e: { code: 'HostVersionMismatch', message: expect.stringMatching(/version 99.*version 1/) },
    });
    const client = await Client.open();
    client.say(
      { k: 'hello', v: 1, pid: 1 },
      { k: 'begin', cmdlet: 'constructor', cwd: '/', prefs: { verbose: false, debug: false, progress: false } },
      record(1),
    );
    expect(await client.until('terminating')).toMatchObject({ e: { code: 'NotImplemented', target: 'constructor' } });
  });

  it('asks before it acts; stop and closing answer no; a vanished client does not stop the work', async () => {
    const answers: boolean[] = [];
    let finished!: () => void;
    const done = new Promise<void>((resolve) => (finished = resolve));
    handler = async (context) => {
      answers.push(await context.shouldProcess('Move?'));
      await context.output({ $t: 'X' });
      if (context.signal.aborted) finished();
    };
    const client = await Client.begun();
    client.say(record(1));
    const ask = await client.until('ask');
    expect(ask).toMatchObject({ kind: 'shouldProcess', text: 'Move?', action: 'Confirm' });
    client.say({ k: 'reply', id: ask['id']!, value: true });
    await client.until('processed');
    client.received.length = 0;
    client.say(record(2));
    await client.until('ask');
    client.say({ k: 'stop' });
    await client.until('processed');
    const leaving = await Client.begun();
    leaving.say(record(1));
    await leaving.until('ask');
    leaving.socket.destroy();
    await done;
    expect(answers).toEqual([true, false, false]);
  });

  it('waits for a client that does not read, instead of buffering without end', async () => {
    let sent = 0;
    let noteWait!: () => void;
    const waited = new Promise<void>((resolve) => (noteWait = resolve));
    handler = async (context) => {
      const big = 'x'.repeat(1024 * 1024);
      for (; sent < 64 && !context.signal.aborted; sent++) {
        const ready = context.output({ $t: 'X', big });
        const first = await Promise.race([ready.then(() => 'sent'), systemClock.sleep(300).then(() => 'waiting')]);
        if (first === 'waiting') {
          noteWait();
          client.socket.resume();
          await ready;
        }
      }
    };
    const client = await Client.begun();
    client.socket.pause();
    client.say(record(1));
    await waited;
    expect(sent).toBeLessThan(8);
    await client.until('processed');
    expect(client.received.filter((message) => message['k'] === 'output')).toHaveLength(64);
  }, 20_000);

  it('lets a record say why it fails of the end of the host, and calls none processed that was given up', async () => {
    let working = 0;
    let allWork!: () => void;
    const atWork = new Promise<void>((resolve) => (allWork = resolve));
    handler = async ({ bound, signal }) => {
      if (++working === 3) allWork();
      if (bound['Name'] === 'deaf') await new Promise(() => {});
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
      if (bound['Name'] === 'waits') throw new VmStorageError('OperationStopped', 'nothing was begun');
    };
    const [waits, runs, deaf, idle] = [await Client.begun(), await Client.begun(), await Client.begun(), await Client.begun()];
    for (const [client, Name] of [
      [waits, 'waits'],
      [runs, 'runs'],
      [deaf, 'deaf'],
    ] as const)
      client.say(record(1, { Name }));
    await Promise.all([atWork, idle.until('hello')]);
    const closed = server.close();
    expect(await waits.until('terminating')).toMatchObject({ e: { code: 'OperationStopped', message: 'nothing was begun' } });
    await Promise.all([closed, ...[waits, runs, deaf, idle].map((client) => client.closed)]);
    for (const client of [runs, deaf, idle]) expect(client.received.map((message) => message['k'])).toEqual(['hello']);
    expect(waits.received.map((message) => message['k'])).toEqual(['hello', 'terminating']);
  });

  it('has a limit of connections at each of its doors, of which one that is full shuts no other', async () => {
    const [few, other] = [join(folder, 'few.sock'), join(folder, 'other.sock')];
    const doors = [few, other].map((at) => ({ path: at, group: null, connectionsMost: 2 }));
    const complete = async () => [];
    const options = { methods: {}, peerOf, roles: noRoles, complete, version: '1', definitions: '', clock: systemClock, log: silentLog };
    const two = await serve(doors, options);
    try {
      const opened = async (at: string): Promise<'open' | 'closed'> => {
        const socket = connect(at);
        clients.push({ socket } as Client);
        return new Promise((resolve) => {
          socket.on('error', () => resolve('closed'));
          socket.on('close', () => resolve('closed'));
          socket.on('data', () => resolve('open'));
          socket.on('connect', () => socket.write(encodeFrame({ k: 'hello', v: 1, pid: 1, client: 'test' })));
        });
      };
      expect([await opened(few), await opened(few), await opened(few)]).toEqual(['open', 'open', 'closed']);
      expect([await opened(other), await opened(other)]).toEqual(['open', 'open']);
    } finally {
      await two.close();
    }
  });

  it('is taken over when stale, never from a live process', async () => {
    await expect(
      serve([{ path, group: null, connectionsMost: 512 }], {
        methods: {},
        peerOf: async () => null,
        roles: noRoles,
        complete: async () => [],
        version: '1',
        definitions: '',
        clock: systemClock,
        log: silentLog,
      }),
    ).rejects.toThrow(/Another process listens/);
    const stale = join(folder, 'stale.sock');
    const dying = createServer();
    await new Promise<void>((resolve) => dying.listen(stale, resolve));
    await writeFile(join(folder, 'copy'), '');
    const { rename } = await import('node:fs/promises');
    await rename(stale, `${stale}.kept`);
    await new Promise((resolve) => dying.close(resolve));
    await rename(`${stale}.kept`, stale);
    const second = await serve([{ path: stale, group: null, connectionsMost: 512 }], {
      methods: {},
      peerOf: async () => null,
      roles: noRoles,
      complete: async () => [],
      version: '1',
      definitions: '',
      clock: systemClock,
      log: silentLog,
    });
    await second.close();
  });
});

describe('the lock of an instance', () => {
  it('is held by one host at a time and free when it lets go', async () => {
    const file = join(folder, 'host.lock');
    const first = await lockInstance(file, folder);
    await expect(lockInstance(file, folder)).rejects.toThrow(/Another host is already running/);
    await first.release();
    await (await lockInstance(file, folder)).release();
  });
});
