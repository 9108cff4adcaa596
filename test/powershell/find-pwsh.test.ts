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
import { fetchRelease, releaseVersion } from '../../src/powershell/release.js';

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
  let sha256: string;

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
    sha256 = createHash('sha256').update(archive).digest('hex');
    files = { [`/v${releaseVersion}/${asset}`]: archive };
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const find = (environment: NodeJS.ProcessEnv, more = {}) =>
    findPwsh({ environment, checkout: join(folder, 'checkout'), releaseUrl: base, releaseSha256: sha256, ...more });

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

  it.each([
    ['whose folder others may write to', (bundle: string) => chmod(bundle, 0o777)],
    ['with a file that others may write to', (bundle: string) => chmod(join(bundle, 'archive'), 0o666)],
    ['in a folder that others may write to', (bundle: string) => chmod(join(bundle, '..'), 0o777)],
  ])('not a bundle %s: it is passed over, and that is said', async (_, spoil) => {
    const bundle = join(folder, 'shared', 'powershell');
    await mkdir(bundle, { recursive: true });
    const ran = join(folder, 'ran');
    await writeFile(join(bundle, 'install'), `#!/bin/sh\n: > ${ran}\n`);
    await chmod(join(bundle, 'install'), 0o755);
    await writeFile(join(bundle, 'archive'), '');
    await spoil(bundle);
    const said: string[] = [];
    const found = find({ PATH: '/usr/bin:/bin' }, { report: (text: string) => said.push(text) });
    expect((await found).from).toBe('release');
    expect(said[0]).toMatch(/passing over the bundle beside the checkout: .*can be written to by others/);
    await expect(access(ran)).rejects.toThrow('ENOENT');
  });

  it('then the official release, checked, kept, and not fetched again', async () => {
    const found = await find({ PATH: '/usr/bin:/bin' });
    expect(found).toMatchObject({ version: releaseVersion, from: 'release' });
    expect(asked).toEqual([`/v${releaseVersion}/${asset}`]);
    expect((await find({ PATH: '/usr/bin:/bin' })).path).toBe(found.path);
    expect(asked).toHaveLength(1);
  });

  it('nothing is fetched when it must not be', async () => {
    await expect(find({ PATH: '' }, { fetch: false })).rejects.toThrow('VMSTORAGE_PWSH');
    expect(asked).toEqual([]);
  });

  it.each([
    // Whoever can replace the archive can replace a list of hashes beside it: none is asked for.
    [
      'an archive with another hash, and a list of hashes beside it that says so,',
      () => {
        files[`/v${releaseVersion}/${asset}`] = Buffer.from('tampered');
        const own = createHash('sha256').update('tampered').digest('hex');
        files[`/v${releaseVersion}/hashes.sha256`] = Buffer.from(`${own} *${asset}\n`);
      },
      'that of the release is',
    ],
    ['no archive', () => (files[`/v${releaseVersion}/${asset}`] = undefined), 'answered 404'],
  ])('%s leaves nothing behind', async (_, spoil, why) => {
    spoil();
    await expect(fetchRelease(folder, { baseUrl: base, sha256 })).rejects.toThrow(why);
    expect(asked).not.toContain(`/v${releaseVersion}/hashes.sha256`);
    expect(await readdir(folder)).toEqual(['checkout']);
    await expect(access(join(folder, releaseVersion))).rejects.toThrow('ENOENT');
  });

  it('a server that is not there is said', async () => {
    await expect(fetchRelease(folder, { baseUrl: 'http://127.0.0.1:1' })).rejects.toThrow('Cannot fetch');
  });
});
