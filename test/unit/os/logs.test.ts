/** Logs: bounded whoever writes them, and none of them worth a process when its file system has no room. */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { boundLogs } from '../../../src/os/bounded-logs.js';
import { createLog } from '../../../src/os/log.js';
import { LogFile } from '../../../src/os/log-file.js';
import { mountTmpfs, type Mount } from '../../support/mounts.js';
import { requires } from '../../support/requires.js';
import { makeScratch, type Scratch } from '../../support/scratch.js';

let scratch: Scratch;
let file: string;
beforeEach(async () => {
  scratch = await makeScratch('logs');
  file = join(scratch.path, 'host.log');
});
afterEach(() => scratch[Symbol.asyncDispose]());

const lines = (path = file): string[] => fs.readFileSync(path, 'utf8').trim().split('\n');

describe("the host's own log", () => {
  it('never grows beyond its limit: what is older is in one file beside it, no line is torn or lost between the two', () => {
    const log = new LogFile(file, () => undefined, 1_000);
    for (let n = 0; n < 30; n++) log.write(`${String(n).padStart(99, '0')}\n`);
    expect(fs.statSync(file).size).toBeLessThanOrEqual(1_000);
    expect(fs.statSync(`${file}.1`).size).toBeLessThanOrEqual(1_000);
    expect([...lines(`${file}.1`), ...lines()].map(Number)).toEqual(Array.from({ length: 20 }, (_, at) => at + 10));
  });

  it('that an earlier host left is gone on with, and counts', () => {
    fs.writeFileSync(file, `${'x'.repeat(900)}\n`);
    const log = new LogFile(file, () => undefined, 1_000);
    log.write(`${'y'.repeat(200)}\n`);
    expect(lines(`${file}.1`)).toEqual(['x'.repeat(900)]);
    expect(lines()).toEqual(['y'.repeat(200)]);
  });
});

describe("others' logs", () => {
  it('are cut under their writers, the newest part kept; the one that its writer bounds is left to it', async () => {
    fs.mkdirSync(join(scratch.path, 'vm'));
    const guestLog = join(scratch.path, 'vm', 'console.log');
    const writer = fs.openSync(guestLog, 'a');
    fs.writeSync(writer, 'a'.repeat(5_000) + 'b'.repeat(1_000));
    fs.writeFileSync(file, 'c'.repeat(5_000));
    await boundLogs(scratch.path, file, 1_000);
    fs.writeSync(writer, 'd');
    fs.closeSync(writer);
    expect([fs.readFileSync(guestLog, 'utf8'), fs.readFileSync(`${guestLog}.1`, 'utf8')]).toEqual(['d', 'b'.repeat(1_000)]);
    expect(fs.statSync(file).size).toBe(5_000);
  });
});

describe.skipIf(!requires('mounts', process.getuid?.() === 0, 'only root mounts a file system'))('on a file system that is full', () => {
  let full: Mount;
  const filler = (): string => join(full.path, 'filler');
  beforeEach(async () => {
    full = await mountTmpfs(join(scratch.path, 'full'), 'size=256k');
    file = join(full.path, 'host.log');
  });
  afterEach(() => full[Symbol.asyncDispose]());
  const fill = (): void => void execFileSync('sh', ['-c', `dd if=/dev/zero of=${filler()} bs=4k 2>/dev/null || true`]);

  it('the log names itself and the reason, loses lines and nobody, and tells how many once there is room', () => {
    fs.writeFileSync(file, `${'.'.repeat(4095)}\n`); // a whole page: not one more byte has room
    fill();
    const open = createLog(file, 'info');
    const { log } = open;
    log.info({}, 'lost');
    log.info({}, 'lost as well');
    expect(open.trouble()).toBe(`the log '${file}' cannot be written: no space left on device`);
    fs.rmSync(filler());
    open.tryAgain();
    expect(open.trouble()).toBeNull();
    open.close();
    expect(
      lines()
        .slice(1)
        .map((line) => JSON.parse(line) as object),
    ).toMatchObject([{ msg: 'the log is tried again' }, { msg: 'the log is written again; lines were lost', lines: 2, file }]);
  });

  it('a log of others that is too long is cut, though there is no room to keep its end', async () => {
    fs.writeFileSync(join(full.path, 'worker.log'), 'a'.repeat(100_000));
    fill();
    await boundLogs(full.path, file, 60_000);
    expect(fs.statSync(join(full.path, 'worker.log')).size).toBe(0);
  });
});
