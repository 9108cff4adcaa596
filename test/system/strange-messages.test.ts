/** Unknown and malformed messages on the sockets of a running instance: that connection is closed, and nothing else notices. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encodeFrame } from '../../src/protocol/frames.js';
import { Instance } from '../support/instance.js';
import { Machine, reasonOf } from '../support/machine.js';
import { lacks } from '../support/requires.js';

/** A closed connection shows at once; this is for a machine that has other things to do. */
const CLOSE_LIMIT_MS = 20_000;

/** Announces more than it sends, and more than is allowed. */
const tooLong = Buffer.alloc(4);
tooLong.writeUInt32LE(0xffff_fff0);
const strange: Readonly<Record<string, Buffer>> = {
  'a frame that is too long': tooLong,
  'a frame of nothing': Buffer.alloc(4),
  'no JSON': Buffer.concat([Buffer.from([5, 0, 0, 0]), Buffer.from('hello')]),
  'JSON that is no message': encodeFrame(['what', 'is', 'this']),
  null: encodeFrame(null),
  'an unknown message': encodeFrame({ k: 'dance', id: 1, method: 'dance', params: {} }),
  'a name of every object': encodeFrame({ k: 'constructor', id: 1, method: 'constructor', params: {} }),
  'another protocol': Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'),
};

/** Resolves when the other side has closed a connection that said `bytes`. */
async function isClosedAfter(socketPath: string, bytes: Buffer): Promise<void> {
  const socket = connect(socketPath);
  socket.on('error', () => {}); // a reset is a way of closing
  socket.resume();
  await once(socket, 'connect');
  socket.write(bytes);
  const limit = AbortSignal.timeout(CLOSE_LIMIT_MS);
  try {
    await once(socket, 'close', { signal: limit });
  } finally {
    socket.destroy();
  }
}

describe.skipIf(lacks('qemu-system-x86_64', 'qemu-img', 'guest'))('a strange message closes its connection and nothing else', () => {
  let instance: Instance;
  let vm: Machine;
  let pids: readonly number[];

  beforeAll(async () => {
    instance = await Instance.start('strange');
    vm = await Machine.create(instance, {
      name: 'calm',
      folder: `${instance.folder}/a`,
      disks: ['data.img'],
      guest: 'w.span=8 w.qd=2 w.iops=200',
    });
    await vm.start();
    pids = [...instance.processes].sort();
  });
  afterAll(async () => {
    await vm?.[Symbol.asyncDispose]();
    await instance?.[Symbol.asyncDispose]();
  });

  async function expectNothingElse(): Promise<void> {
    await vm.console.goesOn(1);
    vm.expectNoGuestError();
    expect([...instance.processes].sort()).toEqual(pids);
    expect(await vm.get()).toMatchObject({ State: 'Running', Status: 'Operating normally' });
    await vm.probe.serves(1, vm.qemuPid);
  }

  it("on the host's socket", async () => {
    for (const bytes of Object.values(strange)) await isClosedAfter(instance.paths.hostSocket, bytes);
    await expectNothingElse();
  });

  it("on the worker's socket", async () => {
    for (const bytes of Object.values(strange)) await isClosedAfter(instance.paths.workerSocket(vm.id), bytes);
    await expectNothingElse();
  });

  it("on the disk's vhost-user socket, which belongs to its QEMU", async () => {
    const unknownRequest = Buffer.alloc(12);
    unknownRequest.writeUInt32LE(0x7fff_ffff, 0);
    unknownRequest.writeUInt32LE(1, 4);
    const setOwnerThenNonsense = Buffer.alloc(24);
    setOwnerThenNonsense.writeUInt32LE(3, 0);
    setOwnerThenNonsense.writeUInt32LE(1, 4);
    setOwnerThenNonsense.fill(0xff, 12);
    for (const bytes of [unknownRequest, setOwnerThenNonsense, ...Object.values(strange)]) {
      const socket = connect(instance.paths.diskSocket(vm.id, 0));
      socket.on('error', () => {});
      socket.resume();
      // A second client may be refused at once or left waiting; what counts is the guest.
      socket.write(bytes);
      await vm.console.goesOn(1);
      socket.destroy();
    }
    await expectNothingElse();
  });

  it('in the middle of a move, too', async () => {
    const moving = vm.move(`${instance.folder}/b`);
    const outcome = reasonOf(moving);
    expect(await vm.probe.inPhase(['copy', 'mirror', 'verify'], moving)).not.toBeNull();
    for (const path of [instance.paths.hostSocket, instance.paths.workerSocket(vm.id)])
      for (const bytes of Object.values(strange)) await isClosedAfter(path, bytes);
    expect(await outcome).toBe('it succeeded');
    await expectNothingElse();
    await vm.stopAndCheck([`${instance.folder}/b/Virtual Hard Disks/data.img`]);
  });
});
