/** Where PowerShell is found, and that a fetched one is checked before it is kept. The server is ours; its archive holds a stand-in. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, chmod, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { findPwsh } from '../../src/powershell/find-pwsh.js';
import { fetchRelease, publishedHash, releaseVersion } from '../../src/powershell/release.js';

const run = promisify(execFile);
const asset = `powershell-${releaseVersion}-linux-${process.arch}.tar.gz`;

async function fakePwsh(file: string, version: string): Promise<string> {
  await writeFile(file, `#!/bin/sh\necho ${version}\n`);
  await chmod(file, 0o755);
  return file;
}

describe('finding PowerShell', () => {
  let folder: string;
  let server: Server;
  let base: string;
  let files: { [path: string]: Buffer | undefined };
  let asked: string[];
  let archive: Buffer;

  beforeAll(async () => {
    const work = await mkdtemp(join(tmpdir(), 'vms-tar-'));
    await fakePwsh(join(work, 'pwsh'), releaseVersion);
    // Released archives do not always carry the executable bit.
    await chmod(join(work, 'pwsh'), 0o644);
    await run('tar', ['-czf', join(work, 'a.tgz'), '-C', work, 'pwsh']);
    archive = await readFile(join(work, 'a.tgz'));
    await rm(work, { recursive: true });
    server = createServer((request, response) => {
      asked.push(request.url!);
      const file = files[request.url!];
      response.writeHead(file ? 200 : 404).end(file);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => new Promise((resolve) => server.close(resolve)));
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'vms-find-'));
    await mkdir(join(folder, 'checkout'));
    asked = [];
    const hash = createHash('sha256').update(archive).digest('hex').toUpperCase();
    files = {
      [`/v${releaseVersion}/hashes.sha256`]: Buffer.from(`${'0'.repeat(64)} *other.zip\r\n${hash} *${asset}\r\n`),
      [`/v${releaseVersion}/${asset}`]: archive,
    };
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const find = (environment: NodeJS.ProcessEnv, more = {}) =>
    findPwsh({ environment, checkout: join(folder, 'checkout'), releaseUrl: base, ...more });

  it('VMSTORAGE_PWSH comes first', async () => {
    const named = await fakePwsh(join(folder, 'mine'), '7.6.3');
    expect(await find({ VMSTORAGE_PWSH: named, PATH: folder })).toEqual({ path: named, version: '7.6.3', from: 'VMSTORAGE_PWSH' });
  });

  it('a VMSTORAGE_PWSH that is too old or not there is an error, not a reason to look further', async () => {
    await expect(find({ VMSTORAGE_PWSH: await fakePwsh(join(folder, 'old'), '7.4.1') })).rejects.toThrow('7.6 or later');
    await expect(find({ VMSTORAGE_PWSH: join(folder, 'none') })).rejects.toThrow('cannot be run');
    expect(asked).toEqual([]);
  });

  it('then PATH, unless it is too old', async () => {
    const onPath = await fakePwsh(join(folder, 'pwsh'), '7.10.0');
    expect(await find({ PATH: `/nonexistent:${folder}` })).toMatchObject({ path: onPath, from: 'PATH' });
    await fakePwsh(onPath, '7.5.4');
    const said: string[] = [];
    expect((await find({ PATH: `${folder}:/usr/bin:/bin` }, { report: (text: string) => said.push(text) })).from).toBe('release');
    expect(said[0]).toContain('older than 7.6');
  });

  it('then a bundle beside the checkout, installed under .cache', async () => {
    const bundle = join(folder, 'shared', 'powershell');
    await mkdir(bundle, { recursive: true });
    await writeFile(
      join(bundle, 'install'),
      '#!/bin/sh\nmkdir -p "$1"\nprintf \'#!/bin/sh\\necho 7.6.9\\n\' > "$1/pwsh"\nchmod 755 "$1/pwsh"\necho "$1/pwsh"\n',
    );
    await chmod(join(bundle, 'install'), 0o755);
    expect(await find({ PATH: '/usr/bin:/bin' })).toEqual({
      path: join(folder, 'checkout', '.cache', 'powershell', 'pwsh'),
      version: '7.6.9',
      from: 'bundle',
    });
    expect(asked).toEqual([]);
  });

  it('then the official release, checked, kept, and not fetched again', async () => {
    const found = await find({ PATH: '/usr/bin:/bin' });
    expect(found).toMatchObject({ version: releaseVersion, from: 'release' });
    expect(asked).toEqual([`/v${releaseVersion}/hashes.sha256`, `/v${releaseVersion}/${asset}`]);
    expect((await find({ PATH: '/usr/bin:/bin' })).path).toBe(found.path);
    expect(asked).toHaveLength(2);
  });

  it('nothing is fetched when it must not be', async () => {
    await expect(find({ PATH: '' }, { fetch: false })).rejects.toThrow('VMSTORAGE_PWSH');
    expect(asked).toEqual([]);
  });

  it.each([
    ['an archive with another hash', () => (files[`/v${releaseVersion}/${asset}`] = Buffer.from('tampered')), 'published is'],
    ['no hash of the archive', () => (files[`/v${releaseVersion}/hashes.sha256`] = Buffer.from('')), 'has no hash'],
    ['no hash list', () => (files[`/v${releaseVersion}/hashes.sha256`] = undefined), 'answered 404'],
    ['no archive', () => (files[`/v${releaseVersion}/${asset}`] = undefined), 'answered 404'],
  ])('%s leaves nothing behind', async (_, spoil, why) => {
    spoil();
    await expect(fetchRelease(folder, { baseUrl: base })).rejects.toThrow(why);
    expect(await readdir(folder)).toEqual(['checkout']);
    await expect(access(join(folder, releaseVersion))).rejects.toThrow('ENOENT');
  });

  it('a server that is not there is said', async () => {
    await expect(fetchRelease(folder, { baseUrl: 'http://127.0.0.1:1' })).rejects.toThrow('Cannot fetch');
  });

  it.each([
    ['UTF-8', (text: string) => Buffer.from(text)],
    ['UTF-8 with a mark', (text: string) => Buffer.from(`\ufeff${text}`)],
    ['UTF-16', (text: string) => Buffer.from(`\ufeff${text}`, 'utf16le')],
  ])('a hash list in %s is read', (_, encode) => {
    const hash = 'AB'.repeat(32);
    expect(publishedHash(encode(`${hash}  x.tar.gz\n${hash} *y.tar.gz`), 'x.tar.gz')).toBe(hash.toLowerCase());
    expect(publishedHash(encode(`${hash} *x.tar.gz`), 'z')).toBeUndefined();
  });
});
