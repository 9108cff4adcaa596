/**
 * The official PowerShell release, fetched when there is no other: downloaded to a temporary file, checked against the hashes
 * published beside it, unpacked, and only then moved into place. Nothing unverified is ever run or kept.
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
const defaultBase = 'https://github.com/PowerShell/PowerShell/releases/download';
/** Its archives are about 75 MB; more than this is not one. */
const maxArchiveBytes = 400 * 1024 * 1024;
const maxHashListBytes = 1024 * 1024;
/** For the whole download: 75 MB at 100 KB/s. */
const downloadTimeoutMs = 15 * 60 * 1000;

export interface ReleaseOptions {
  /** Folder above `v<version>/`; default: VMSTORAGE_PWSH_RELEASES, else the official one. */
  readonly baseUrl?: string;
  readonly report?: (text: string) => void;
}

function archiveName(): string {
  const cpu = { x64: 'x64', arm64: 'arm64' }[process.arch as string];
  if (process.platform !== 'linux' || cpu === undefined) {
    throw new VmStorageError(
      'NotImplemented',
      `There is no PowerShell to fetch for ${process.platform} on ${process.arch}. Install it and set VMSTORAGE_PWSH.`,
    );
  }
  return `powershell-${releaseVersion}-linux-${cpu}.tar.gz`;
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

/** Text of the hash list, which has been published as UTF-8 and as UTF-16 with a byte order mark. */
function decodeHashes(bytes: Buffer): string {
  return bytes[0] === 0xff && bytes[1] === 0xfe ? bytes.toString('utf16le') : bytes.toString('utf8');
}

/** The hash of one file in lines of `<sha256> [*]<name>`. */
export function publishedHash(list: Buffer, name: string): string | undefined {
  for (const line of decodeHashes(list).split(/\r?\n/)) {
    const match = /^\ufeff?([0-9a-fA-F]{64})\s+\*?(\S+)\s*$/.exec(line);
    if (match?.[2] === name) return match[1]!.toLowerCase();
  }
  return undefined;
}

async function readBounded(response: Response, maxBytes: number): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let total = 0;
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    total += chunk.length;
    if (total > maxBytes) throw new VmStorageError('OperationFailed', `${response.url} is longer than ${maxBytes} bytes.`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
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

  const name = archiveName();
  const base = `${options.baseUrl ?? process.env['VMSTORAGE_PWSH_RELEASES'] ?? defaultBase}/v${releaseVersion}`;
  await mkdir(folder, { recursive: true });
  const work = await mkdtemp(join(folder, '.fetch-'));
  try {
    const want = publishedHash(await readBounded(await get(`${base}/hashes.sha256`), maxHashListBytes), name);
    if (want === undefined)
      throw new VmStorageError('VerificationFailed', `${base}/hashes.sha256 has no hash of ${name}. Nothing was installed.`);
    options.report?.(`fetching PowerShell ${releaseVersion} from ${base}/${name}`);
    const archive = join(work, name);
    const have = await download(await get(`${base}/${name}`), archive);
    if (have !== want) {
      throw new VmStorageError(
        'VerificationFailed',
        `${name} has the hash ${have}, published is ${want}. It was thrown away; try again later.`,
        { target: name },
      );
    }
    const unpacked = join(work, 'unpacked');
    await mkdir(unpacked);
    await run('tar', ['-xzf', archive, '-C', unpacked, '--no-same-owner']);
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
