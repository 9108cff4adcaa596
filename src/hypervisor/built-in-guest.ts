/**
 * The process of a machine that runs the built-in guest: a vhost-user-blk client in the addon that writes checksummed blocks and keeps a
 * ledger of what every block may hold. Its disks' sockets are a worker's, which may die and come back: the guest waits and sees no error.
 *
 *   node built-in-guest.js --vm <id> --control <socket> --console <file> --report <file> --options <NativeGuestOptions as JSON>
 *
 * It tells on its console (one JSON line each second and disk) what the test guest of test/guest tells, as far as it knows it, and is asked
 * by its control socket (built-in-control.ts). SIGTERM is its power button.
 */
import { appendFileSync, chmodSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { parseArgs } from 'node:util';
import {
  native,
  type NativeGuest,
  type NativeGuestDisk,
  type NativeGuestOptions,
  type NativeGuestReport,
  type NativeGuestWindow,
} from '../native/binding.js';
import { fromNative } from '../native/errors.js';
import { isRefusedWrite } from '../os/errno.js';
import { complain } from '../os/terminal.js';
import { encodeFrame, FrameDecoder } from '../protocol/frames.js';

const SECOND_MS = 1000;
/** A host, its successor, a test. */
const CONNECTIONS_MAX = 16;
/** After this long without a flush the guest is taken for one whose flushes do not arrive. */
const FLUSH_PATIENCE_MS = 10_000;
/** Whoever asked for the stop gets this long to take the answer. */
const ANSWER_LIMIT_MS = 2_000;

const { values } = parseArgs({
  options: {
    vm: { type: 'string' },
    control: { type: 'string' },
    console: { type: 'string' },
    report: { type: 'string' },
    options: { type: 'string' },
  },
});
const { control, console: consoleFile, report: reportFile } = values;
if (!values.vm || !control || !consoleFile || !reportFile || !values.options) {
  complain('built-in guest: --vm, --control, --console, --report and --options are needed');
  process.exit(2);
}
process.umask(0o077);
process.on('SIGHUP', () => undefined);
process.on('SIGINT', () => undefined);

const startedMs = performance.now();
const options = JSON.parse(values.options) as NativeGuestOptions;
const guest = start();
/** What a console cannot take is lost, as a machine's own would be; the guest goes on. */
const say = (line: object): void => {
  try {
    appendFileSync(consoleFile, `${JSON.stringify(line)}\n`, { mode: 0o600 });
  } catch (error) {
    if (!isRefusedWrite(error)) throw error;
  }
};
const stats = (): readonly NativeGuestDisk[] => JSON.parse(guest.stats()) as NativeGuestDisk[];
const nameOf = (index: number): string => `vd${String.fromCharCode('a'.charCodeAt(0) + index)}`;

let stopping: Promise<NativeGuestReport> | null = null;
let before: readonly NativeGuestDisk[] = options.sockets.map(() => ({ reads: 0, writes: 0, zeroes: 0, flushes: 0 }) as NativeGuestDisk);
let ready = false;
let second = 0;
let dueMs = performance.now() + SECOND_MS;
const clock = setInterval(tellSecond, SECOND_MS);

const server = createServer(accept);
server.maxConnections = CONNECTIONS_MAX;
// Bound under another name and renamed: whoever sees the socket can connect to it.
const temporary = `${control}.${process.pid}`;
rmSync(temporary, { force: true });
server.listen(temporary, () => {
  chmodSync(temporary, 0o600);
  renameSync(temporary, control);
});
process.on('SIGTERM', () => void stop().finally(end));

function start(): NativeGuest {
  try {
    return native().NativeGuest.start(JSON.stringify(options));
  } catch (error) {
    complain(`built-in guest: ${fromNative(error).message}`);
    process.exit(1);
  }
}

/** Counts are per disk; the waits are of all disks together, and the longest of them bounds any silence of the storage. */
function tellSecond(): void {
  const now = stats();
  const late = Math.max(0, Math.round((performance.now() - dueMs) * 1000));
  dueMs = performance.now() + SECOND_MS;
  if (!ready) {
    if (!now.every((disk) => disk.connected && disk.writes + disk.reads > 0)) return;
    const flushed = now.every((disk) => disk.flushes > 0) || options.flushEvery === 0;
    if (!flushed && performance.now() - startedMs < FLUSH_PATIENCE_MS) return;
    now.forEach((disk, index) =>
      say({
        ev: 'disk',
        disk: nameOf(index),
        index,
        cache: disk.flushes > 0 ? 'write back' : 'not flushed',
        queues: options.queues ?? 1,
        err: disk.ioErrors,
        bad: disk.wrongBlocks,
      }),
    );
    say({
      ev: 'ready',
      ms: Math.round(performance.now() - startedMs),
      disks: now.length,
      clock: 'host',
      cpus: options.queues ?? 1,
      powerButtons: 1,
    });
    ready = true;
  }
  const { p50Us, p99Us, longestUs } = JSON.parse(guest.takeWindow()) as NativeGuestWindow;
  second += 1;
  now.forEach((disk, index) => {
    const was = before[index]!;
    const max = Math.max(longestUs, disk.oldestWaitUs);
    say({
      t: second,
      disk: nameOf(index),
      r: disk.reads - was.reads,
      w: disk.writes + disk.zeroes - was.writes - was.zeroes,
      f: disk.flushes - was.flushes,
      rp50: p50Us,
      rp99: p99Us,
      rmax: max,
      wp50: p50Us,
      wp99: p99Us,
      wmax: max,
      fp99: p99Us,
      fmax: max,
      err: disk.ioErrors,
      bad: disk.wrongBlocks + disk.unexpectedCompletions,
      tick: late,
      stall: max / 1000,
    });
  });
  before = now;
}

/** Resolves with what the guest saw; the report is in its file before anybody is told. */
function stop(): Promise<NativeGuestReport> {
  stopping ??= (async () => {
    clearInterval(clock);
    say({ ev: 'stopping', why: 'power button' });
    const report = JSON.parse(await guest.stop()) as NativeGuestReport;
    writeFileSync(`${reportFile}.part`, `${JSON.stringify(report, null, 1)}\n`);
    renameSync(`${reportFile}.part`, reportFile!);
    report.disks.forEach((disk, index) => {
      if (disk.firstWrong !== null) say({ ev: 'fatal', text: disk.firstWrong });
      say({
        ev: 'verified',
        disk: nameOf(index),
        blocks: Math.floor(disk.bytesRead / 4096),
        err: disk.ioErrors,
        bad: disk.wrongBlocks + disk.unexpectedCompletions,
      });
    });
    if (report.stuck > 0) say({ ev: 'fatal', text: `${report.stuck} requests were never answered` });
    say({ ev: 'done', ms: report.elapsedMs });
    return report;
  })();
  return stopping;
}

function end(): void {
  rmSync(control!, { force: true });
  process.exit(0);
}

function accept(socket: Socket): void {
  const decoder = new FrameDecoder();
  socket.on('error', () => undefined);
  socket.on('data', (chunk: Buffer) => {
    try {
      for (const message of decoder.push(chunk)) answer(socket, (message as { ask?: unknown } | null)?.ask);
    } catch {
      socket.destroy(); // broken framing: that connection is over, nothing else is touched
    }
  });
}

function answer(socket: Socket, ask: unknown): void {
  if (ask === 'stats' && !stopping) socket.end(encodeFrame({ answer: stats() }));
  else if (ask === 'window' && !stopping) socket.end(encodeFrame({ answer: JSON.parse(guest.takeWindow()) as NativeGuestWindow }));
  else if (ask === 'stop') {
    stop().then(
      // Also when the asker is gone: it may have died, and a stop is a stop.
      (report) => last(socket, { answer: report }),
      (error: unknown) => last(socket, { error: fromNative(error).message }),
    );
  } else if (stopping) socket.end(encodeFrame({ error: 'it is being shut down' }));
  else socket.destroy();
}

function last(socket: Socket, message: object): void {
  setTimeout(end, ANSWER_LIMIT_MS);
  if (socket.destroyed) end();
  else socket.end(encodeFrame(message), end);
}
