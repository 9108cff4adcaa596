/**
 * The host process: `node dist/src/host/main.js [--log <file>|-]`. SIGTERM and SIGINT end it in order; workers and guests are left alone.
 * VMSTORAGE_HOME chooses the instance, VMSTORAGE_QEMU the QEMU, VMSTORAGE_LOG_LEVEL what is logged.
 */
import { parseArgs } from 'node:util';
import { VmStorageError } from '../model/errors.js';
import { startHost } from './compose.js';

/** Handlers that hang must not keep a service from being restarted. */
const CLOSE_LIMIT_MS = 10_000;

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { log: { type: 'string' } } });
  // Whoever started us may be gone: what we print to it must not end us.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
  const level = process.env['VMSTORAGE_LOG_LEVEL'];
  const host = await startHost({
    environment: process.env,
    ...(values.log === undefined ? {} : { logFile: values.log }),
    ...(level ? { logLevel: level } : {}),
  });
  process.on('uncaughtException', (error) => {
    // State in memory may be wrong now; the next host reads it all anew, and nothing on the data path depends on this process.
    host.services.log.error({ error: error.stack }, 'the host failed and ends');
    process.exit(70);
  });
  let ending = false;
  const end = (): void => {
    if (ending) return;
    ending = true;
    setTimeout(() => process.exit(1), CLOSE_LIMIT_MS).unref();
    host.close().then(
      () => process.exit(0),
      (error: unknown) => {
        console.error(error);
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
  process.on('SIGHUP', () => {}); // a closed terminal is no reason to stop
  process.stdout.write(`vmstorage host ${process.pid} listens on ${host.paths.hostSocket}\n`);
}

main().catch((error: unknown) => {
  process.stderr.write(`vmstorage host: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(error instanceof VmStorageError ? error.exitCode : 70);
});
