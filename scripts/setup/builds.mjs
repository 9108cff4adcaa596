/** What is built from this checkout: npm packages, the addon, TypeScript, the PowerShell module. */
import { accessSync, chmodSync, constants, existsSync, lstatSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { findProgram } from './debian.mjs';
import { filesBelow, firstLineOf, hashOf, isStamped, root, runProgram, SetupFailure, stamp } from './step.mjs';

const inRoot = (/** @type {string[]} */ ...names) => names.map((name) => join(root, name));

/** Whether node_modules holds what the lock file asks for, by npm's own record of what it installed. */
function npmIsInstalled() {
  const record = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(record)) return false;
  const installed = JSON.parse(readFileSync(record, 'utf8')).packages;
  const asked = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  // Optional ones are builds for other machines: what is not there, or is of another version, is not used.
  return Object.entries(asked).every(
    ([path, { version, optional }]) => path === '' || optional === true || installed[path]?.version === version,
  );
}

/** @type {import('./step.mjs').Step} */
export const npmStep = {
  name: 'npm packages',
  pending: () => (npmIsInstalled() ? null : 'installing'),
  run() {
    const folder = join(root, 'node_modules');
    if (existsSync(folder) && lstatSync(folder).isSymbolicLink()) {
      throw new SetupFailure(
        'install the npm packages of package-lock.json',
        'node_modules is a link to a folder that holds other versions',
        'run npm ci in the checkout that owns the folder, or remove the link',
      );
    }
    runProgram('install the npm packages of package-lock.json', 'npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
      advice: 'check that the npm registry is reachable; then run npm ci by hand',
    });
  },
};

const addonHash = () =>
  hashOf(inRoot('native'), [
    JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).scripts['build:native'],
    process.env.VMSTORAGE_PROFILE || 'quick',
    process.arch,
    firstLineOf('rustc', ['--version']) ?? '-',
  ]);
const addonMade = () => inRoot('dist/native/binding.d.ts');
const addonBinaryIsThere = () =>
  existsSync(join(root, 'dist/native')) && readdirSync(join(root, 'dist/native')).some((name) => name.endsWith('.node'));

/** @type {import('./step.mjs').Step} */
export const addonStep = {
  name: 'addon',
  pending: () =>
    isStamped('addon', addonHash(), addonMade()) && addonBinaryIsThere() ? null : 'building with cargo (the first time takes some minutes)',
  run() {
    const asked = 'build the addon in native/';
    const least = /^rust-version = "([\d.]+)"/m.exec(readFileSync(join(root, 'native/Cargo.toml'), 'utf8'))?.[1] ?? '?';
    if (findProgram('cargo') === null)
      throw new SetupFailure(
        asked,
        'cargo is not on PATH',
        `install Rust ${least} or newer (rustup installs it for one user) and see that cargo is on PATH`,
      );
    const hash = addonHash();
    runProgram(asked, 'npm', ['run', '--silent', 'build:native'], {
      advice: "read the compiler's messages above; npm run build:native runs the same by hand",
    });
    stamp('addon', hash);
  },
};

const typescriptInputs = () => [
  ...filesBelow(inRoot('src', 'cmdlets', 'scripts', 'test')).filter((path) => path.endsWith('.ts')),
  ...inRoot('tsconfig.json', 'package-lock.json', 'dist/native/binding.d.ts'),
];

/** Removes compiled files whose source is gone: a stale test or cmdlet would otherwise live on. */
function removeStale(/** @type {string} */ below) {
  const compiled = join(root, 'dist', below);
  if (!existsSync(compiled)) return;
  for (const name of readdirSync(compiled)) {
    const path = join(compiled, name);
    if (statSync(path).isDirectory()) removeStale(join(below, name));
    else if (/\.js(\.map)?$/.test(name) && !existsSync(join(root, below, name.replace(/\.js(\.map)?$/, '.ts')))) rmSync(path);
  }
}

/**
 * What npx runs. The compiler makes new files that nobody may execute, and npm makes them executable only when it first links them: after
 * that, `npx vmstorage` in a checkout compiled anew at the same path says "Permission denied".
 */
const commands = () => inRoot(...Object.values(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).bin));

function areExecutable() {
  try {
    for (const command of commands()) accessSync(command, constants.X_OK);
    return true;
  } catch {
    return false; // or not there: either way the step has to run
  }
}

/** @type {import('./step.mjs').Step} */
export const typescriptStep = {
  name: 'TypeScript',
  pending: () => (isStamped('typescript', hashOf(typescriptInputs()), inRoot('dist/src')) && areExecutable() ? null : 'compiling'),
  run() {
    const hash = hashOf(typescriptInputs());
    runProgram('compile TypeScript', join(root, 'node_modules/.bin/tsc'), ['-p', 'tsconfig.json'], {
      advice: 'mend what the compiler names',
    });
    for (const below of ['src', 'cmdlets', 'scripts', 'test']) removeStale(below);
    for (const command of commands()) chmodSync(command, 0o755);
    stamp('typescript', hash);
  },
};

const wizardHash = () =>
  hashOf(inRoot('src/wizard', 'src/model/visible.ts', 'cmdlets/shim/quote.ts', '.config/vite.config.ts', 'package-lock.json'));

/** @type {import('./step.mjs').Step} */
export const wizardStep = {
  name: "wizard's page",
  pending: () => (isStamped('wizard', wizardHash(), inRoot('dist/wizard/index.html')) ? null : 'building with Vite'),
  run() {
    const hash = wizardHash();
    runProgram("build the wizard's page", 'npm', ['run', '--silent', 'build:wizard'], { advice: 'mend what Vite names' });
    stamp('wizard', hash);
  },
};

const buildShim = join(root, 'dist/scripts/build-shim.js');
const shimMade = () => inRoot('dist/powershell/VMStorage');
const shimHash = () =>
  hashOf(inRoot('cmdlets', 'src/powershell', 'scripts/build-shim.ts'), [
    process.env.VMSTORAGE_PWSH ?? '',
    findProgram('pwsh') ?? '',
    String(existsSync(join(root, '../shared/powershell/install'))),
  ]);
/** Looking for PowerShell may mean a download: without success it is tried once a day, not at every run. */
const gapHash = () => `${shimHash()} ${new Date().toISOString().slice(0, 10)}`;
const shimGap = 'missing: PowerShell 7.6, so the cmdlets run by the vmstorage command only. Install it, or name it in VMSTORAGE_PWSH';

/** @type {import('./step.mjs').Step} */
export const shimStep = {
  name: 'PowerShell module',
  pending: () =>
    !existsSync(buildShim) || isStamped('shim', shimHash(), shimMade()) || isStamped('shim-gap', gapHash(), [])
      ? null
      : 'compiling with the Roslyn inside pwsh',
  gaps: () => (existsSync(buildShim) && !isStamped('shim', shimHash(), shimMade()) ? [shimGap] : []),
  run() {
    const hash = shimHash();
    const look =
      "import('./dist/src/powershell/find-pwsh.js').then(({ findPwsh }) => findPwsh()).catch((error) => { console.error(error.message); process.exitCode = 1; })";
    try {
      runProgram('find PowerShell', process.execPath, ['--input-type=module', '--eval', look], { advice: '' });
    } catch (error) {
      if (!(error instanceof SetupFailure)) throw error;
      stamp('shim-gap', gapHash());
      return [shimGap, ...error.message.trim().split('\n').slice(1)];
    }
    runProgram('build the PowerShell module', process.execPath, [buildShim], {
      advice: 'read what it says above; npm run build:shim runs the same by hand',
    });
    stamp('shim', hash);
    return [];
  },
};
