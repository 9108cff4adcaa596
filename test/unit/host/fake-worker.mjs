// Speaks the worker contract and serves nothing: for tests of supervision only. `--control <file>` holds JSON read before each answer:
// { refuseServe?: text, refuseShutdown?: true, exitAtStart?: true, vmId?: text, silent?: true, failed?: FailedRequest }
import { appendFileSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';

const option = (name) => process.argv[process.argv.indexOf(name) + 1];
const socketPath = option('--socket');
const tool = process.argv.includes('--tool');
const vmId = tool ? '' : option('--vm');
const control = () => JSON.parse(readFileSync(option('--control'), 'utf8'));
if (control().exitAtStart) {
  console.error('cannot start');
  process.exit(3);
}

let disks = [];
const frame = (message) => {
  const body = Buffer.from(JSON.stringify(message));
  const head = Buffer.alloc(4);
  head.writeUInt32LE(body.length);
  return Buffer.concat([head, body]);
};
const status = () => ({
  pid: process.pid,
  vmId: control().vmId ?? vmId,
  io: 'fake',
  move: null,
  journal: null,
  longestTurn: null,
  disks: disks.map((disk) => ({
    index: disk.index,
    path: disk.path,
    device: '1',
    inode: '1',
    sizeBytes: '1',
    peerPid: null,
    waitingFor: null,
    failed: control().failed ?? null,
  })),
});
const failure = (code, message) => ({ error: { message, code, errorId: code, category: 'NotSpecified' } });
const methods = {
  status: () => ({ result: status() }),
  readJournal: () => ({ result: { journal: null } }),
  serve: (params) => {
    appendFileSync(`${option('--control')}.serves`, `${JSON.stringify({ pid: process.pid, ...params })}\n`);
    if (control().refuseServe) return failure('StorageFailure', control().refuseServe);
    disks = params.disks;
    return { result: status() };
  },
  shutdown: (params) => {
    if (control().refuseShutdown && !params.force) return failure('InvalidState', 'A VMM is connected.');
    setTimeout(() => {
      rmSync(socketPath, { force: true });
      process.exit(0);
    }, 5);
    return { result: {} };
  },
};
createServer((socket) => {
  let buffered = Buffer.alloc(0);
  socket.on('error', () => {});
  socket.on('data', (chunk) => {
    buffered = Buffer.concat([buffered, chunk]);
    while (buffered.length >= 4 && buffered.length >= 4 + buffered.readUInt32LE(0)) {
      const { id, method, params } = JSON.parse(buffered.subarray(4, 4 + buffered.readUInt32LE(0)).toString());
      buffered = buffered.subarray(4 + buffered.readUInt32LE(0));
      if (control().silent) continue;
      socket.write(frame({ id, ...(methods[method]?.(params) ?? { result: {} }) }));
    }
  });
}).listen(socketPath);
