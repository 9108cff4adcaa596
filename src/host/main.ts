/**
 * The host process: `node dist/src/host/main.js [--log <file>|-]`. SIGTERM and SIGINT end it in order; workers and guests are left alone.
 * VMSTORAGE_HOME chooses the instance, VMSTORAGE_QEMU the QEMU, VMSTORAGE_LOG_LEVEL what is logged, VMSTORAGE_GUEST_USERS whom QEMU may run as.
 */
import { parseArgs } from 'node:util';
import { VmStorageError } from '../model/errors.js';
import { visibleLine } from '../model/visible.js';
import { keepFileThreadsToOneself } from '../os/file-threads.js';
import { complain, outliveReaders, print } from '../os/terminal.js';
import { native } from '../native/binding.js';
import { startHost, type RunningHost } from './compose.js';

/** Handlers that hang must not keep a service from being restarted. */
const CLOSE_LIMIT_MS = 10_000;

async function main(): Promise<void> {
  keepFileThreadsToOneself();
  keepDescriptors();
  const { values } = parseArgs({ options: { log: { type: 'string' } } });
  outliveReaders();
  let host: RunningHost | null = null;
  let asked = false;
  let ending = false;
  // One that comes while the host still starts is heard as soon as it has: what it has made it takes away again.
  const end = (): void => {
    if (asked && !host) process.exit(1); // asked twice
    asked = true;
    if (ending || !host) return;
    ending = true;
    setTimeout(() => process.exit(1), CLOSE_LIMIT_MS).unref();
    host.close().then(
      () => process.exit(0),
      (error: unknown) => {
        complain(error instanceof Error ? (error.stack ?? error.message) : String(error));
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
  process.on('SIGHUP', () => {}); // a closed terminal is no reason to stop
  const level = process.env['VMSTORAGE_LOG_LEVEL'];
  const started = await startHost({
    environment: process.env,
    ...(values.log === undefined ? {} : { logFile: values.log }),
    ...(level ? { logLevel: level } : {}),
  });
  host = started;
  process.on('uncaughtException', (error) => {
    // State in memory may be wrong now; the next host reads it all anew, and nothing on the data path depends on this process.
    started.services.log.error({ error: error.stack }, 'the host failed and ends');
    process.exit(70);
  });
  print(`vmstorage host ${process.pid} listens on ${visibleLine(started.paths.hostSocket)}`);
  if (asked) end();
}

/** Workers and guests outlive us: what a shell or a service manager has left open in us is not for them. */
function keepDescriptors(): void {
  try {
    native().keepDescriptors();
  } catch (error) {
    complain(`vmstorage host: ${error instanceof Error ? error.message : String(error)}; started processes inherit what this one has open`);
  }
}

main().catch((error: unknown) => {
  complain(`vmstorage host: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(error instanceof VmStorageError ? error.exitCode : 70);
});
