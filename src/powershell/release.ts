/**
 * The official PowerShell release, fetched when there is no other: downloaded to a temporary file, checked against a hash that stands here,
 * unpacked, and only then moved into place. Nothing unverified is ever run or kept. A hash that lies beside the archive would be whoever's the
 * archive is.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { access, chmod, mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { VmStorageError } from '../model/errors.js';

const run = promisify(execFile);

/** The release that is fetched; any 7.6 will do, this one was tried. */
export const releaseVersion = '7.6.5';
/** SHA-256 of its archives, by their names' last part. */
const releaseHashes: { readonly [cpu: string]: string } = {
  x64: 'b34ab3b19acac1d3d4d0d3cfdb02acf62f457b0b6a962ff008132033f7566844',
  arm64: 'ed4084f215d8bce2edd23aa7cb1f1e7b0818e41363a635a22065d2701b6141df',
};
const defaultBase = 'https://github.com/PowerShell/PowerShell/releases/download';
/** Its archives are about 75 MB; more than this is not one. */
const maxArchiveBytes = 400 * 1024 * 1024;
/** For the whole download: 75 MB at 100 KB/s. */
const downloadTimeoutMs = 15 * 60 * 1000;

export interface ReleaseOptions {
  /** Folder above `v<version>/`; default: VMSTORAGE_PWSH_RELEASES, else the official one. */
  readonly baseUrl?: string;
  readonly report?: (text: string) => void;
  /** For tests: what the archive's SHA-256 must be instead. */
  readonly sha256?: string;
}

function archive(): { readonly name: string; readonly sha256: string } {
  const sha256 = Object.hasOwn(releaseHashes, process.arch) ? releaseHashes[process.arch] : undefined;
  if (process.platform !== 'linux' || sha256 === undefined) {
    throw new VmStorageError(
      'NotImplemented',
      `There is no PowerShell to fetch for ${process.platform} on ${process.arch}. Install it and set VMSTORAGE_PWSH.`,
    );
  }
  return { name: `powershell-${releaseVersion}-linux-${process.arch}.tar.gz`, sha256 };
}

async function get(url: string): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { signal: AbortSignal.timeout(downloadTimeoutMs) });
  } catch (cause) {
    throw new VmStorageError(
      'OperationFailed',
      `Cannot fetch ${url}. Check the network, or install PowerShell 7.6 and set VMSTORAGE_PWSH.`,
      { cause, target: url },
    );
  }
  if (!response.ok || response.body === null) {
    throw new VmStorageError('OperationFailed', `Cannot fetch ${url}: the server answered ${response.status}.`, { target: url });
  }
  return response;
}

async function download(response: Response, file: string): Promise<string> {
  const hash = createHash('sha256');
  let total = 0;
  async function* counted(): AsyncGenerator<Uint8Array> {
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      total += chunk.length;
      if (total > maxArchiveBytes) throw new VmStorageError('OperationFailed', `${response.url} is longer than ${maxArchiveBytes} bytes.`);
      hash.update(chunk);
      yield chunk;
    }
  }
  await pipeline(Readable.from(counted()), createWriteStream(file, { flags: 'wx' }));
  return hash.digest('hex');
}

/** The path of a verified pwsh in `folder` (`folder/<version>/pwsh`), fetched if it is not there yet. */
export async function fetchRelease(folder: string, options: ReleaseOptions = {}): Promise<string> {
  const home = join(folder, releaseVersion);
  const pwsh = join(home, 'pwsh');
  if (
    await access(pwsh).then(
      () => true,
      () => false,
    )
  )
    return pwsh;

  const { name, sha256 } = archive();
  const want = options.sha256 ?? sha256;
  const base = `${options.baseUrl ?? process.env['VMSTORAGE_PWSH_RELEASES'] ?? defaultBase}/v${releaseVersion}`;
  await mkdir(folder, { recursive: true });
  const work = await mkdtemp(join(folder, '.fetch-'));
  try {
    options.report?.(`fetching PowerShell ${releaseVersion} from ${base}/${name}`);
    const fetched = join(work, name);
    const have = await download(await get(`${base}/${name}`), fetched);
    if (have !== want) {
      throw new VmStorageError(
        'VerificationFailed',
        `${base}/${name} has the hash ${have}, but that of the release is ${want}. It was thrown away: it is damaged, or not what Microsoft published.`,
        { target: name },
      );
    }
    const unpacked = join(work, 'unpacked');
    await mkdir(unpacked);
    await run('tar', ['-xzf', fetched, '-C', unpacked, '--no-same-owner']);
    await chmod(join(unpacked, 'pwsh'), 0o755);
    await rename(unpacked, home).catch(async (cause: unknown) => {
      // Somebody else was faster: theirs was verified by the same code.
      if (
        !(await access(pwsh).then(
          () => true,
          () => false,
        ))
      )
        throw cause;
    });
    return pwsh;
  } finally {
    await rm(work, { recursive: true, force: true });
    if (
      !(await access(pwsh).then(
        () => true,
        () => false,
      ))
    )
      await rm(dirname(pwsh), { recursive: true, force: true });
  }
}
