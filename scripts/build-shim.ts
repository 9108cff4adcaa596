/**
 * Builds the PowerShell module into dist/powershell: renders the generated sources and files, compiles them with the hand-written
 * runtime by the Roslyn inside pwsh, and puts the result in place in one rename per module. Deterministic; does nothing when no
 * input has changed. `node dist/scripts/build-shim.js [--force]`
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, mkdir, mkdtemp, readFile, readdir, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { definitionsHash } from '../cmdlets/hash.js';
import { cmdlets, type Cmdlet } from '../cmdlets/index.js';
import { enums, objectTypes } from '../cmdlets/types/index.js';
import { assemblyName } from '../cmdlets/shim/manifest.js';
import { renderShim, type RenderedShim } from '../cmdlets/shim/render.js';
import { checkoutFolder } from '../src/powershell/checkout.js';
import { findPwsh, pwshEnvironment } from '../src/powershell/find-pwsh.js';
import { PROTOCOL_VERSION } from '../src/protocol/messages.js';

const run = promisify(execFile);
const compileTimeoutMs = 5 * 60_000;
const lockPollMs = 100;
/** Official builds keep this for the whole 7.6 line; a DLL compiled against another version loads only where that one is. */
const officialEngine = '7.6.0.500';

export interface BuiltShim {
  /** Folder of both modules: put it on PSModulePath. */
  readonly modules: string;
  readonly built: boolean;
}

export async function renderModule(checkout = checkoutFolder()): Promise<RenderedShim> {
  const { version } = JSON.parse(await readFile(join(checkout, 'package.json'), 'utf8')) as { version: string };
  return renderShim({
    cmdlets: Object.values(cmdlets) as unknown as readonly Cmdlet[],
    objectTypes: Object.values(objectTypes),
    enums,
    moduleVersion: version,
    protocolVersion: PROTOCOL_VERSION,
    hash: definitionsHash(),
  });
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** Reference assemblies: the framework's from pwsh's ref folder, and one System.Management.Automation. */
async function references(pwsh: string): Promise<string[]> {
  const home = dirname(await realpath(pwsh));
  const folder = join(home, 'ref');
  if (!(await exists(folder))) throw new Error(`${home} has no folder 'ref' with reference assemblies; use a complete PowerShell 7.6`);
  const framework = (await readdir(folder)).filter((name) => name.endsWith('.dll')).map((name) => join(folder, name));
  const engine = join(folder, 'System.Management.Automation.dll');
  const others = [
    ...((await exists(engine)) ? [] : [join(home, 'System.Management.Automation.dll')]),
    join(home, 'Microsoft.Management.Infrastructure.dll'),
  ];
  return [...framework, ...others].sort();
}

export async function buildShim(options: { force?: boolean; report?: (text: string) => void } = {}): Promise<BuiltShim> {
  const report = options.report ?? ((): void => {});
  const checkout = checkoutFolder();
  const shim = join(checkout, 'cmdlets', 'shim');
  const modules = join(checkout, 'dist', 'powershell');
  const rendered = await renderModule(checkout);

  const sources = new Map(rendered.sources);
  for (const name of (await readdir(join(shim, 'runtime'))).sort()) {
    if (name.endsWith('.cs')) sources.set(name, await readFile(join(shim, 'runtime', name), 'utf8'));
  }
  const compiler = join(shim, 'compile.ps1');
  const inputs = createHash('sha256')
    .update(JSON.stringify([[...sources], [...rendered.files], await readFile(compiler, 'utf8')]))
    .digest('hex');
  const stamp = join(modules, '.inputs');
  const assembly = join(modules, 'VMStorage', `${assemblyName}.dll`);
  if (!options.force && (await readFile(stamp, 'utf8').catch(() => '')) === inputs && (await exists(assembly)))
    return { modules, built: false };

  await mkdir(modules, { recursive: true });
  const lock = join(modules, '.lock');
  await takeLock(lock);
  try {
    // Another build may have done it while we waited.
    if (!options.force && (await readFile(stamp, 'utf8').catch(() => '')) === inputs && (await exists(assembly)))
      return { modules, built: false };
    await compileModule({ modules, stamp, inputs, compiler, sources, rendered, report });
    return { modules, built: true };
  } finally {
    await rm(lock, { recursive: true, force: true });
  }
}

/** One build at a time in a checkout: test files start side by side. A lock older than a build can take belongs to a dead one. */
async function takeLock(lock: string): Promise<void> {
  for (;;) {
    try {
      await mkdir(lock);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const since = await stat(lock).then(
      (found) => found.mtimeMs,
      () => Date.now(),
    );
    if (Date.now() - since > compileTimeoutMs) await rm(lock, { recursive: true, force: true });
    await delay(lockPollMs);
  }
}

interface Work {
  readonly modules: string;
  readonly stamp: string;
  readonly inputs: string;
  readonly compiler: string;
  readonly sources: ReadonlyMap<string, string>;
  readonly rendered: RenderedShim;
  readonly report: (text: string) => void;
}

async function compileModule({ modules, stamp, inputs, compiler, sources, rendered, report }: Work): Promise<void> {
  const pwsh = await findPwsh({ report });
  report(`compiling the PowerShell module with PowerShell ${pwsh.version} (${pwsh.from})`);
  const work = await mkdtemp(join(modules, '.build-'));
  try {
    const sourceFolder = join(work, 'source');
    await mkdir(sourceFolder);
    for (const [name, text] of sources) await writeFile(join(sourceFolder, name), text);
    for (const [name, text] of rendered.files) {
      const file = join(work, 'modules', name);
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, text);
    }
    const list = join(work, 'references.txt');
    await writeFile(list, (await references(pwsh.path)).join('\n'));
    const out = join(work, 'modules', 'VMStorage', `${assemblyName}.dll`);
    const { stdout } = await run(
      pwsh.path,
      ['-NoLogo', '-NoProfile', '-NonInteractive', '-File', compiler, '-Source', sourceFolder, '-Out', out, '-ReferenceList', list],
      { env: pwshEnvironment(), timeout: compileTimeoutMs, maxBuffer: 16 * 1024 * 1024 },
    ).catch((cause: Error & { stderr?: string; stdout?: string }) => {
      throw new Error(`the module does not compile:\n${cause.stderr ?? ''}${cause.stdout ?? ''}`, { cause });
    });
    const engine = stdout.trim();
    if (engine !== officialEngine)
      report(
        `note: compiled against System.Management.Automation ${engine}; the DLL will not load in an official PowerShell (${officialEngine})`,
      );
    for (const name of ['VMStorage', 'Hyper-V']) {
      await rm(join(modules, name), { recursive: true, force: true });
      await rename(join(work, 'modules', name), join(modules, name));
    }
    await writeFile(stamp, inputs);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(resolve(process.argv[1])).href) {
  try {
    const { modules, built } = await buildShim({ force: process.argv.includes('--force'), report: (text) => console.error(text) });
    console.log(built ? `built ${modules}` : `${modules} is up to date`);
  } catch (error) {
    console.error(`build-shim: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 1;
  }
}
