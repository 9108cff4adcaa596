/**
 * The one gate: what `npm run check` runs is what decides. Runs everything, lists every failure, exit code 1 if there is one.
 *
 *   node scripts/check.mjs [--fix] [name ...]     --fix formats instead of comparing; names choose checks
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { lintHouse } from './lint-house.mjs';
import { lintLayers } from './lint-layers.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const bin = (/** @type {string} */ name) => join(root, 'node_modules/.bin', name);
const typescriptFolders = ['src', 'cmdlets', 'scripts', 'test', '.config'].filter((folder) => existsSync(join(root, folder)));
const fix = process.argv.includes('--fix');
const chosen = process.argv.slice(2).filter((argument) => !argument.startsWith('--'));

/** @param {string} program @param {string[]} args @param {string} [folder] @returns {string | null} what it says when it fails */
function run(program, args, folder = root) {
  const done = spawnSync(program, args, {
    cwd: folder,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 256 * 1024 * 1024,
    env: { ...process.env, NO_COLOR: '1' },
  });
  if (done.error) return `${program} cannot be started: ${done.error.message}`;
  return done.status === 0 ? null : `${done.stdout}${done.stderr}`.trim() || `${program} ended with ${done.status ?? done.signal}`;
}
const findings = (/** @type {string[]} */ list) => (list.length === 0 ? null : list.join('\n'));
const native = join(root, 'native');

/** Cheap ones first. @type {{ name: string, what: string, check: () => string | null }[]} */
const checks = [
  { name: 'layers', what: 'imports follow scripts/layers.mjs', check: () => findings(lintLayers(root)) },
  { name: 'house', what: "the house's own rules", check: () => findings(lintHouse(root)) },
  {
    name: 'format',
    what: 'oxfmt',
    check: () => run(bin('oxfmt'), ['-c', '.config/oxfmtrc.json', ...(fix ? [] : ['--check']), ...typescriptFolders, '!**/golden/**']),
  },
  {
    name: 'types',
    what: "tsc; the wizard's page has the types of a browser",
    check: () => run(bin('tsc'), ['--noEmit', '-p', 'tsconfig.json']) ?? run(bin('tsc'), ['-p', 'src/wizard/page/tsconfig.json']),
  },
  {
    name: 'lint',
    what: 'oxlint with types',
    check: () => run(bin('oxlint'), ['-c', '.config/oxlintrc.json', '--type-aware', ...(fix ? ['--fix'] : []), ...typescriptFolders]),
  },
  { name: 'rustfmt', what: 'cargo fmt', check: () => run('cargo', ['fmt', '--all', ...(fix ? [] : ['--check'])], native) },
  {
    name: 'clippy',
    what: 'cargo clippy',
    check: () =>
      run('cargo', ['clippy', '--locked', '--quiet', '--workspace', '--all-targets', '--all-features', '--', '-D', 'warnings'], native),
  },
];

const unknown = chosen.filter((name) => !checks.some((check) => check.name === name));
if (unknown.length > 0) {
  console.error(`check: there is no ${unknown.join(', ')}; there are ${checks.map(({ name }) => name).join(', ')}.`);
  process.exit(2);
}

const failures = [];
for (const { name, what, check } of checks.filter(({ name: candidate }) => chosen.length === 0 || chosen.includes(candidate))) {
  const start = Date.now();
  const failure = check();
  console.log(`${failure === null ? 'ok    ' : 'FAILED'} ${name} (${what}) ${((Date.now() - start) / 1000).toFixed(1)} s`);
  if (failure !== null) failures.push({ name, failure });
}
for (const { name, failure } of failures) console.error(`\n--- ${name} ---\n${failure}`);
console.log(
  failures.length === 0
    ? 'check: all is well'
    : `check: ${failures.length} of the checks failed: ${failures.map(({ name }) => name).join(', ')}`,
);
process.exitCode = failures.length === 0 ? 0 : 1;
