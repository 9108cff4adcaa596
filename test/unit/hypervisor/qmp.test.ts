/** The monitor client against a monitor that answers late, in pieces, wrongly, or not at all. */
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Qmp } from '../../../src/hypervisor/qmp.js';

let folder: string;
let server: Server;
let socketPath: string;
/** Decides what the monitor says to each command; sockets are kept so that a test can speak or hang up. */
let answer: (command: { execute: string; id: number }, socket: Socket) => void;
let greeting: string;
const sockets: Socket[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vmstorage-qmp-'));
  socketPath = join(folder, 'qmp.sock');
  greeting = '{"QMP": {"version": {}, "capabilities": []}}\r\n';
  answer = (command, socket) => socket.write(`${JSON.stringify({ return: { of: command.execute }, id: command.id })}\r\n`);
  server = createServer((socket) => {
    sockets.push(socket);
    socket.write(greeting);
    let buffered = '';
    socket.on('data', (chunk) => {
      buffered += chunk.toString();
      for (const line of buffered.split('\n').slice(0, -1)) answer(JSON.parse(line) as { execute: string; id: number }, socket);
      buffered = buffered.slice(buffered.lastIndexOf('\n') + 1);
    });
    socket.on('error', () => {});
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
});
afterEach(async () => {
  sockets.splice(0).forEach((socket) => socket.destroy());
  await new Promise((resolve) => server.close(resolve));
  await rm(folder, { recursive: true, force: true });
});

describe('the monitor client', () => {
  it('gives each command its own answer, whatever their order and however they are cut', async () => {
    const qmp = await Qmp.open(socketPath, process.pid);
    const waiting: { id: number; execute: string }[] = [];
    answer = (command, socket) => {
      waiting.push(command);
      if (waiting.length < 2) return;
      const text = waiting
        .reverse()
        .map((one) => `{"return": "${one.execute}", "id": ${one.id}}\r\n`)
        .join('');
      socket.write(text.slice(0, 7));
      setImmediate(() => socket.write(text.slice(7)));
    };
    expect(await Promise.all([qmp.call('one'), qmp.call('two')])).toEqual(['one', 'two']);
    qmp.close();
  });

  it("rejects with QEMU's own words", async () => {
    const qmp = await Qmp.open(socketPath, process.pid);
    answer = (command, socket) => socket.write(`{"error": {"class": "GenericError", "desc": "no such device"}, "id": ${command.id}}\r\n`);
    await expect(qmp.call('device_del')).rejects.toThrow("QEMU refused 'device_del': no such device.");
    qmp.close();
  });

  it('does not wait for ever: for a greeting, for an answer, or for one that hung up', async () => {
    const qmp = await Qmp.open(socketPath, process.pid);
    answer = () => {};
    await expect(qmp.call('query-status', {}, 20)).rejects.toThrow(/within 20 ms/);
    const pending = qmp.call('cont');
    sockets[0]!.destroy();
    await expect(pending).rejects.toThrow(/did not answer 'cont'/);
    await qmp.closed;
    await expect(qmp.call('cont')).rejects.toThrow(/connection is closed/);
    greeting = '';
    await expect(Qmp.open(socketPath, process.pid, 20)).rejects.toThrow(/no greeting within 20 ms/);
  });

  it('is believed only of the process that QEMU is', async () => {
    await expect(Qmp.open(socketPath, process.pid + 1)).rejects.toThrow(
      `is that of process ${process.pid}, not of QEMU (pid ${process.pid + 1})`,
    );
  });

  it('hands on events, and ends the connection at what is not QMP', async () => {
    const qmp = await Qmp.open(socketPath, process.pid);
    const seen = new Promise((resolve) => qmp.subscribe(resolve));
    sockets[0]!.write('{"event": "STOP", "timestamp": {}}\r\n');
    expect(await seen).toEqual({ event: 'STOP', data: {} });
    sockets[0]!.write('not JSON\r\n');
    expect(await qmp.closed).toMatch(/JSON/);
  });
});
