/** `vmstorage serve` end to end: the command as a person types it, and on the other side clients that are not ours. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, open, readFile, readdir, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { haveImages, sha256, unpackImage } from '../support/images.js';
import { childrenOf } from '../support/leftovers.js';
import { NbdClient, READ, WRITE } from '../support/nbd-client.js';
import { lacks, requires } from '../support/requires.js';
import { makeScratch, type Scratch } from '../support/scratch.js';
import { Serving } from '../support/serving.js';

const run = promisify(execFile);
const MIB = 1 << 20;
const DISK_BYTES = 64 * MIB;

/** The output of a program that is expected to fail. */
const failing = (program: string, words: string[]): Promise<string> =>
  run(program, words).then(
    ({ stdout }) => expect.fail(`${program} ${words.join(' ')} did not fail: ${stdout}`),
    (error: Error & { stdout?: string; stderr?: string }) => `${error.stdout}${error.stderr}`,
  );

/** qemu-io on a server; every pattern it reads must be right. */
async function qemuIo(uri: string, commands: readonly string[], readOnly = false): Promise<void> {
  const { stdout, stderr } = await run('qemu-io', [
    ...(readOnly ? ['-r'] : []),
    ...['-f', 'raw', uri],
    ...commands.flatMap((command) => ['-c', command]),
  ]);
  expect(stdout + stderr).not.toMatch(/fail|error/i);
}

const checkVhdx = async (path: string): Promise<void> => {
  const { stdout, stderr } = await run('qemu-img', ['check', '-f', 'vhdx', path]);
  expect(stdout + stderr).toContain('No errors were found');
};

describe.skipIf(lacks('qemu-img', 'qemu-io', 'nbdinfo', 'nbdcopy'))('vmstorage serve', () => {
  let scratch: Scratch;
  let socket: string;
  const at = (name: string): string => join(scratch.path, name);
  beforeEach(async () => {
    scratch = await makeScratch('serve');
    socket = at('disk.sock');
  });
  afterEach(() => scratch[Symbol.asyncDispose]());

  const kinds = ['raw', 'vhdx fixed', 'vhdx dynamic'] as const;

  async function makeDisk(kind: (typeof kinds)[number]): Promise<{ path: string; format: 'raw' | 'vhdx' }> {
    const format = kind === 'raw' ? 'raw' : 'vhdx';
    const path = at(kind === 'raw' ? 'disk.img' : 'disk.vhdx');
    const options = kind === 'raw' ? [] : ['-o', `subformat=${kind === 'vhdx fixed' ? 'fixed' : 'dynamic'}`];
    await run('qemu-img', ['create', '-q', '-f', format, ...options, path, String(DISK_BYTES)]);
    return { path, format };
  }

  describe.each(kinds)('%s', (kind) => {
    it('what nbdcopy brings in, qemu-img finds in the file and nbdcopy brings out again', async () => {
      const { path, format } = await makeDisk(kind);
      // Data, holes, and a hole that ends the disk.
      const file = await open(at('content.img'), 'w');
      await file.truncate(DISK_BYTES);
      for (const place of [0, 5, 17, 40]) await file.write(randomBytes(2 * MIB), 0, 2 * MIB, place * MIB + 4096);
      await file.close();

      await using serving = await Serving.start(path, socket);
      await run('nbdcopy', ['--flush', at('content.img'), serving.uri]);
      await run('nbdcopy', [serving.uri, at('back.img')]);
      expect(await sha256(at('back.img'))).toBe(await sha256(at('content.img')));
      expect((await serving.end()).code).toBe(0);
      if (format === 'vhdx') await checkVhdx(path);
      await run('qemu-img', ['compare', '-f', 'raw', '-F', format, at('content.img'), path]);
    });

    it('qemu-io’s writes, zeroes and discards read back, live and from the file', async () => {
      const { path, format } = await makeDisk(kind);
      await using serving = await Serving.start(path, socket);
      const expected = [
        'read -P 0 0 4096',
        'read -P 0xab 4096 1044480',
        'read -P 0 1048576 65536',
        'read -P 0xab 1114112 982016',
        'read -P 0 2097152 1048576',
        'read -P 0xcd 33554432 512',
        'read -P 0 33554944 3584',
        'read -P 0xef 67108352 512',
      ];
      await qemuIo(serving.uri, [
        'write -P 0xab 4096 3M',
        'write -z 1M 64k',
        'discard 2M 1M',
        'write -f -P 0xcd 32M 512',
        'write -P 0xef 67108352 512',
        'aio_write -P 0x11 40M 8M',
        'aio_write -z -u 48M 8M',
        'aio_flush',
        'flush',
        ...expected,
        'read -P 0x11 40M 8M',
        'read -P 0 48M 8M',
      ]);
      await failing('qemu-io', ['-f', 'raw', serving.uri, '-c', 'write 64M 4k']);
      expect((await serving.end('SIGTERM')).code).toBe(0);
      if (format === 'vhdx') await checkVhdx(path);
      await run('qemu-io', ['-r', '-f', format, path, ...expected.flatMap((command) => ['-c', command])]);
    });
  });

  it('nbdinfo sees the disk as it is, and the line says where', async () => {
    const { path } = await makeDisk('vhdx dynamic');
    await using serving = await Serving.start(path, socket);
    expect((await stat(socket)).mode & 0o777).toBe(0o600);
    const { stdout } = await run('nbdinfo', ['--json', serving.uri]);
    const [seen] = (JSON.parse(stdout) as { exports: Record<string, unknown>[] }).exports;
    expect(seen).toMatchObject({
      'export-size': DISK_BYTES,
      is_read_only: false,
      can_flush: true,
      can_fua: true,
      can_trim: true,
      can_zero: true,
      can_multi_conn: false,
      block_size_minimum: 512,
    });
    await qemuIo(serving.uri, ['write -P 1 32M 1M']);
    const map = (JSON.parse((await run('nbdinfo', ['--map', '--json', serving.uri])).stdout) as { type: number; length: number }[]) ?? [];
    expect(map.reduce((sum, { length }) => sum + length, 0)).toBe(DISK_BYTES);
    expect(map[0]).toMatchObject({ type: 3, length: 32 * MIB });
    const ended = await serving.end();
    expect(ended).toEqual({ code: 0, stdout: `serving ${path} at ${serving.uri}\n`, stderr: '' });
  });

  describe('the end', () => {
    it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s leaves a VHDX that needs no replay, and no socket', async (signal) => {
      const { path } = await makeDisk('vhdx dynamic');
      await using serving = await Serving.start(path, socket);
      await qemuIo(serving.uri, ['write -P 7 3M 40M', 'write -P 8 1M 512']);
      expect((await serving.end(signal)).code).toBe(0);
      await checkVhdx(path);
      await run('qemu-io', ['-r', '-f', 'vhdx', path, '-c', 'read -P 7 3M 40M', '-c', 'read -P 8 1M 512']);
      expect((await readdir(scratch.path)).sort()).toEqual(['disk.vhdx']);
    });

    it('a client in flight gets every answer, though it fetches them only afterwards', async () => {
      const { path } = await makeDisk('raw');
      const content = randomBytes(16 * MIB);
      await writeFile(path, content);
      await truncate(path, DISK_BYTES);
      await using serving = await Serving.start(path, socket);
      const client = await NbdClient.connect(socket);
      // 16 MiB do not fit into the socket: most answers are still the server's when it is told to end.
      client.ask(
        READ,
        Array.from({ length: 16 }, (_unused, n) => ({ offset: n * MIB, length: MIB })),
      );
      await client.somethingArrived();
      serving.signal('SIGTERM');
      await new Promise((resolve) => setTimeout(resolve, 500));
      const answers = await client.answersUntilClosed();
      expect(answers.map(({ cookie }) => cookie).sort((a, b) => a - b)).toEqual(Array.from({ length: 16 }, (_unused, n) => n));
      for (const { cookie, error, data } of answers) {
        expect(error).toBe(0);
        expect(data.equals(content.subarray(cookie * MIB, (cookie + 1) * MIB))).toBe(true);
      }
      expect((await serving.ended).code).toBe(0);
    });

    it('a write that was answered is in the file, and none is answered with an error', async () => {
      const { path } = await makeDisk('vhdx dynamic');
      await using serving = await Serving.start(path, socket);
      const client = await NbdClient.connect(socket);
      const data = randomBytes(MIB);
      client.ask(
        WRITE,
        Array.from({ length: 48 }, (_unused, n) => ({ offset: n * MIB, length: MIB, data })),
      );
      const arriving = client.answersUntilClosed();
      await client.somethingArrived();
      serving.signal('SIGINT');
      const answers = await arriving;
      expect(answers.length).toBeGreaterThan(0);
      expect(answers.filter(({ error }) => error !== 0)).toEqual([]);
      expect((await serving.ended).code).toBe(0);
      await checkVhdx(path);
      await run('qemu-img', ['convert', '-f', 'vhdx', '-O', 'raw', path, at('plain.img')]);
      const plain = await readFile(at('plain.img'));
      for (const { cookie } of answers) expect(plain.subarray(cookie * MIB, (cookie + 1) * MIB).equals(data)).toBe(true);
    });

    it('a client that never fetches its answers does not hold the server for ever', async () => {
      const { path } = await makeDisk('vhdx dynamic');
      await using serving = await Serving.start(path, socket);
      await qemuIo(serving.uri, ['write -P 3 0 16M']);
      const client = await NbdClient.connect(socket);
      client.ask(
        READ,
        Array.from({ length: 16 }, (_unused, n) => ({ offset: n * MIB, length: MIB })),
      );
      await client.somethingArrived();
      expect((await serving.end()).code).toBe(0);
      client.close();
      await checkVhdx(path);
      expect(existsSync(socket)).toBe(false);
    });

    it('the server goes with a command that was killed', async () => {
      const { path } = await makeDisk('vhdx dynamic');
      await using serving = await Serving.start(path, socket);
      await qemuIo(serving.uri, ['write -P 3 0 16M']);
      serving.signal('SIGKILL');
      // Its output is the server's as well: it closes when both are gone.
      await serving.ended;
      expect(existsSync(socket)).toBe(false);
      await checkVhdx(path);
    });
  });

  describe('two on one file', () => {
    it('a second server is refused, qemu-img finds it locked, and the first goes on', async () => {
      const { path } = await makeDisk('vhdx dynamic');
      await using serving = await Serving.start(path, socket);
      for (const more of [[], ['--read-only']]) {
        const refused = await Serving.refusal([path, '--nbd', at('second.sock'), ...more]);
        expect(refused).toMatchObject({ code: 5, stdout: '' });
        expect(refused.stderr).toContain('in use');
      }
      expect(await failing('qemu-img', ['info', path])).toContain('lock');
      expect(await failing('qemu-img', ['convert', '-f', 'vhdx', '-O', 'raw', path, at('copy.img')])).toContain('lock');
      await qemuIo(serving.uri, ['write -P 5 0 1M', 'read -P 5 0 1M']);
      expect((await readdir(scratch.path)).sort()).toEqual(['disk.sock', 'disk.vhdx']);
    });

    it('a second server on the same socket is refused, and the first goes on', async () => {
      const { path } = await makeDisk('raw');
      await copyFile(path, at('other.img'));
      await using serving = await Serving.start(path, socket);
      const refused = await Serving.refusal([at('other.img'), '--nbd', socket]);
      expect(refused).toMatchObject({ code: 6, stdout: '' });
      expect(refused.stderr).toContain(socket);
      await qemuIo(serving.uri, ['write -P 5 0 1M', 'read -P 5 0 1M']);
    });

    it('read-only allows two servers and readers, and keeps writers away', async () => {
      const { path } = await makeDisk('vhdx dynamic');
      await run('qemu-io', ['-f', 'vhdx', path, '-c', 'write -P 9 0 4M']);
      const before = await sha256(path);
      await using first = await Serving.start(path, socket, '--read-only');
      await using second = await Serving.start(path, at('second.sock'), '--read-only');
      for (const { uri } of [first, second]) {
        await qemuIo(uri, ['read -P 9 0 4M'], true);
        expect(JSON.parse((await run('nbdinfo', ['--json', uri])).stdout)).toMatchObject({ exports: [{ is_read_only: true }] });
        await failing('qemu-io', ['-f', 'raw', uri, '-c', 'write -P 1 0 4k']);
      }
      await run('qemu-img', ['info', path]);
      expect(await failing('qemu-io', ['-f', 'vhdx', path, '-c', 'write -P 1 0 4k'])).toContain('lock');
      expect((await Serving.refusal([path, '--nbd', at('third.sock')])).code).toBe(5);
      await first.end();
      await second.end();
      expect(await sha256(path)).toBe(before);
    });

    it('a killed server leaves nothing in the way of the next', async () => {
      const { path } = await makeDisk('vhdx dynamic');
      await using serving = await Serving.start(path, socket);
      await qemuIo(serving.uri, ['write -P 5 0 20M']);
      const [worker] = childrenOf(serving.pid)!;
      process.kill(worker!, 'SIGKILL');
      expect((await serving.ended).code).toBe(137);
      await using next = await Serving.start(path, socket);
      await qemuIo(next.uri, ['read -P 5 0 20M']);
      await next.end();
      await checkVhdx(path);
    });
  });

  describe('refusals: exit code, one line, nothing made', () => {
    async function refusal(...words: string[]): Promise<object> {
      const before = await readdir(scratch.path);
      const ended = await Serving.refusal(words);
      return { ...ended, made: (await readdir(scratch.path)).filter((name) => !before.includes(name)) };
    }
    const as = (code: number, why: RegExp): object => ({ code, stdout: '', stderr: expect.stringMatching(why), made: [] });

    it.each([
      ['disk.txt', 2, /not a virtual hard disk file by its name/],
      ['disk', 2, /not a virtual hard disk file by its name/],
      ['disk.vhd', 9, /VHD is not implemented/],
      ['disk.qcow2', 9, /qcow2 is not implemented/],
      ['disk.avhdx', 9, /not implemented/],
    ])('%s is refused by its name', async (name, code, why) => {
      await writeFile(at(name), Buffer.alloc(MIB));
      expect(await refusal(at(name), '--nbd', socket)).toEqual(as(code, why));
    });

    it('what is not there, not a file, empty, or half a sector', async () => {
      expect(await refusal(at('missing.img'), '--nbd', socket)).toEqual(as(3, /missing\.img'.*No such file/));
      await mkdir(at('folder.img'));
      expect(await refusal(at('folder.img'), '--nbd', socket)).toEqual(as(2, /folder\.img'.*directory/i));
      await writeFile(at('empty.img'), '');
      expect(await refusal(at('empty.img'), '--nbd', socket)).toEqual(as(10, /empty\.img' is 0 bytes long/));
      await writeFile(at('odd.raw'), Buffer.alloc(1000));
      expect(await refusal(at('odd.raw'), '--nbd', socket)).toEqual(as(10, /odd\.raw' is 1000 bytes long/));
      await symlink(at('nowhere.img'), at('link.img'));
      expect(await refusal(at('link.img'), '--nbd', socket)).toEqual(as(3, /link\.img'/));
    });

    it('a corrupt VHDX, naming file and rule', async () => {
      const { path } = await makeDisk('vhdx dynamic');
      const file = await open(path, 'r+');
      await file.write(Buffer.alloc(4096), 0, 4096, 64 * 1024);
      await file.write(Buffer.alloc(4096), 0, 4096, 128 * 1024);
      await file.close();
      expect(await refusal(path, '--nbd', socket)).toEqual(
        as(10, /disk\.vhdx'.*neither header has a valid signature and checksum \(2\.2\.2\)/),
      );
      await writeFile(at('plain.vhdx'), Buffer.alloc(4 * MIB));
      expect(await refusal(at('plain.vhdx'), '--nbd', socket)).toEqual(as(10, /plain\.vhdx'.*does not begin with 'vhdxfile'/));
    });

    it('words that are wrong: above all a misspelt --read-only', async () => {
      const { path } = await makeDisk('raw');
      expect(await refusal(path, '--nbd', socket, '--readonly')).toEqual(as(2, /readonly/));
      for (const value of ['yes', '1', 'True', '']) {
        expect(await refusal(path, '--nbd', socket, `--read-only=${value}`)).toEqual(as(2, /true nor false/));
      }
      expect(await refusal(path)).toEqual(as(2, /nbd/));
      expect(await refusal(path, '--nbd')).toEqual(as(2, /nbd/));
      expect(await refusal(path, '--nbd', '')).toEqual(as(2, /Usage/));
      expect(await refusal(path, path, '--nbd', socket)).toEqual(as(2, /disk\.img|Unknown/));
      expect(await refusal(path, '--nbd', socket, '--nbd', at('x.sock'))).toEqual(as(2, /one --nbd/));
    });

    it('a socket that cannot be: too long, in no folder, a file in its place', async () => {
      const { path } = await makeDisk('vhdx dynamic');
      const before = await sha256(path);
      expect(await refusal(path, '--nbd', at('x'.repeat(120)))).toEqual(as(2, /too long/));
      expect(await refusal(path, '--nbd', at('nowhere/disk.sock'))).toEqual(as(3, /nowhere/));
      await writeFile(at('precious'), 'precious');
      expect(await refusal(path, '--nbd', at('precious'))).toEqual(as(6, /not a socket/));
      expect(await readFile(at('precious'), 'utf8')).toBe('precious');
      expect(await sha256(path)).toBe(before);
    });
  });

  describe.skipIf(!requires('disk images by other software', haveImages(), 'there is no folder of disk images (VMSTORAGE_IMAGES)'))(
    'images by other software',
    () => {
      it.each(['ext2.vhdx', 'ntfs-fixed.vhdx', 'ntfs-dynamic.vhdx', 'test-disk2vhd.vhdx', 'iotest-dynamic-1G.vhdx'])(
        '%s holds what the manifest says, read-only',
        async (name) => {
          const known = await unpackImage(name, at(name));
          await using serving = await Serving.start(at(name), socket, '--read-only');
          await run('qemu-img', ['convert', '-f', 'raw', '-O', 'raw', serving.uri, at('content.img')]);
          expect((await stat(at('content.img'))).size).toBe(known.guestBytes);
          expect(await sha256(at('content.img'))).toBe(known.sha256OfGuest);
          await serving.end();
          expect(await sha256(at(name))).toBe(known.sha256OfFile);
        },
      );

      it('a dirty log is replayed in memory when read-only, and the file stays as it is; for writing, in place', async () => {
        const name = 'iotest-dirtylog-10G-4M.vhdx';
        const known = await unpackImage(name, at(name));
        const contentServed = async (target: string, ...more: string[]): Promise<void> => {
          await using serving = await Serving.start(at(name), socket, ...more);
          await run('qemu-img', ['convert', '-f', 'raw', '-O', 'raw', serving.uri, target]);
          await serving.end();
        };
        await contentServed(at('content.img'), '--read-only');
        expect(await sha256(at(name))).toBe(known.sha256OfFile);
        expect((await stat(at('content.img'))).size).toBe(known.guestBytes);
        expect(await sha256(at('content.img'))).toBe(known.sha256OfGuest);

        await contentServed(at('again.img'));
        expect(await sha256(at(name))).not.toBe(known.sha256OfFile);
        await checkVhdx(at(name));
        // 10 GiB of zeros but for a little: compared by holes, not hashed a second time.
        await run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', at('content.img'), at('again.img')]);
      }, 600_000); // hashing 10 GiB: 20 s of processor time

      it('a differencing disk is refused, and its parent named', async () => {
        await unpackImage('fat-differential.vhdx', at('child.vhdx'));
        const before = await sha256(at('child.vhdx'));
        const ended = await Serving.refusal([at('child.vhdx'), '--nbd', socket, '--read-only']);
        expect(ended).toMatchObject({ code: 11, stdout: '' });
        expect(ended.stderr).toMatch(/child\.vhdx'.*differencing disk \(parent: .*fat-parent\.vhdx\)/);
        expect(await sha256(at('child.vhdx'))).toBe(before);
      });
    },
  );
});
