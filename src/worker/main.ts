/**
 * One process per VM (Hyper-V's vmwp): loads the addon, serves the VM's disks, runs its move. It is started by the host and
 * outlives it; a new host connects to the same socket. With `--tool` it has no VM and answers only the image methods.
 *
 *   node main.js --socket <path> --vm <id> [--tool]
 */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import { visibleLine } from '../model/visible.js';
import { native } from '../native/binding.js';
import { complain, outliveReaders, print } from '../os/terminal.js';
import { WorkerServer } from './server.js';

const { values } = parseArgs({
  options: { socket: { type: 'string' }, vm: { type: 'string', default: '' }, tool: { type: 'boolean', default: false } },
});
if (!values.socket) {
  complain('worker: --socket <path> is missing');
  process.exit(2);
}
process.umask(0o077);
// The host may die, the terminal may close: neither ends a worker.
process.on('SIGHUP', () => undefined);
process.on('SIGINT', () => undefined);
// A log that cannot be written (its file system is full) must not end us, nor keep us busy with saying so.
outliveReaders();
mkdirSync(dirname(values.socket), { recursive: true, mode: 0o700 });
// From here on, before anything of a guest is looked at.
try {
  native().refuseDangerousCalls();
} catch (error) {
  // A kernel without seccomp. A guest that waits for its disks is not kept waiting for that.
  complain(`${new Date().toISOString()} worker: goes on with all system calls: ${error instanceof Error ? error.message : String(error)}`);
}

const server = new WorkerServer({ socket: values.socket, vmId: values.vm, tool: values.tool });
process.on('SIGTERM', () => void server.end(0));
process.on('uncaughtException', (error) => {
  complain(`${new Date().toISOString()} worker: ${error.stack ?? String(error)}`);
  // The engine's threads keep serving the guest; an orchestration fault must not take its disks away.
});
await server.listen();
print(`${new Date().toISOString()} worker ${process.pid} listens on ${visibleLine(values.socket)}`);
