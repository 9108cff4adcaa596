/**
 * The house's own rules, each small and with its reason. By hand: `node scripts/lint-house.mjs [checkout]`.
 * A rule gets a file's path, its text, and its text without comments and strings, and names the lines that break it.
 */
import { readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseSync } from 'oxc-parser';
import { codeFiles } from './code-files.mjs';

const LINES_MOST = 600;
const TOP_LEVEL = new Set([
  ...['package.json', 'package-lock.json', 'tsconfig.json', 'native', 'src', 'cmdlets', 'test', 'scripts', 'README.md', 'docs', '.ci'],
  ...['.config', '.editorconfig', '.gitattributes', '.gitignore', '.npmrc'],
]);
const FORBIDDEN_WORDS = new Set(['util', 'utils', 'common', 'helper', 'helpers', 'misc', 'base', 'manager', 'managers']);
/** Said in pieces, so that this file does not name them. */
const REGISTRY_HOSTS = [
  ['registry', 'npmjs', 'org'],
  ['crates', 'io'],
  ['deb', 'debian', 'org'],
  ['pypi', 'org'],
  ['proxy', 'golang', 'org'],
].map((parts) => parts.join('.'));
const MACHINE_PATHS = ['work', 'root'].map((folder) => new RegExp(`(^|[\\s"'\`(=:])/${folder}/`));

/** @typedef {{ path: string, text: string, code: string, lines: string[], codeLines: string[] }} File */
/** @typedef {{ name: string, why: string, only: RegExp, check: (file: File) => { line?: number, text: string }[] }} Rule */

const isCode = /\.(tsx?|mjs|rs)$/;
const isTest = (/** @type {string} */ path) => /^test\/|^native\/engine\/tests\/|\.test\.ts$|(^|\/)tests?\.rs$/.test(path);

/** Blanks comments and strings, keeps lines. @param {string} path @param {string} text */
function withoutCommentsAndStrings(path, text) {
  const blank = (/** @type {string} */ part) => part.replaceAll(/[^\n]/g, ' ');
  if (path.endsWith('.rs')) {
    return text.replaceAll(/\/\/[^\n]*|\/\*[^]*?\*\/|b?r(#*)"[^]*?"\1|b?"(?:\\[^]|[^"\\])*"|b?'(?:\\[^]|[^'\\\n])'/g, blank);
  }
  if (!/\.(tsx?|mjs)$/.test(path)) return text;
  const { comments, program } = parseSync(path, text);
  const spans = comments.map(({ start, end }) => ({ start, end }));
  const visit = (/** @type {any} */ node) => {
    if (node === null || typeof node !== 'object') return;
    if (Array.isArray(node)) return node.forEach(visit);
    if ((node.type === 'Literal' && typeof node.value === 'string') || node.type === 'TemplateElement' || node.regex) spans.push(node);
    for (const key of Object.keys(node)) if (key !== 'type' && key !== 'start' && key !== 'end') visit(node[key]);
  };
  visit(program);
  let code = text;
  for (const { start, end } of spans) code = code.slice(0, start) + blank(code.slice(start, end)) + code.slice(end);
  return code;
}

/** Lines of `lines` that match, with what to say. @param {string[]} lines @param {RegExp} pattern @param {string} say */
const matching = (lines, pattern, say) =>
  lines.flatMap((text, i) => (pattern.test(text) ? [{ line: i + 1, text: `${say}: ${text.trim().slice(0, 100)}` }] : []));

/** One package or file kind, and the folders that alone may name it. @param {string} name @param {RegExp} pattern @param {RegExp} allowed @param {string} why @returns {Rule} */
const door = (name, pattern, allowed, why) => ({
  name: `door: ${name}`,
  why,
  only: isCode,
  check: ({ path, lines }) => (allowed.test(path) ? [] : matching(lines, pattern, `only ${allowed.source} may`)),
});

/** @type {Rule[]} */
export const rules = [
  {
    name: 'door: terminal',
    why: 'names, paths and what guests say are written so that no terminal obeys them, in one place',
    only: /^src\/.*\.ts$/,
    check: ({ path, codeLines }) =>
      path === 'src/os/terminal.ts'
        ? []
        : matching(codeLines, /\bconsole\.\w+\(|\bprocess\.std(out|err)\.write\b/, 'only src/os/terminal.ts may'),
  },
  {
    name: 'file name',
    why: 'a file is one idea and its name says which; drawers for anything attract anything',
    only: /\.(tsx?|mjs|rs|c|h|cs)$/,
    check: ({ path }) => {
      const name = basename(path).replace(/(\.test|\.config)?\.\w+$/, '');
      const words = path.split('/').flatMap((part) => part.replace(/\.\w+$/, '').split(/[-_.]/));
      const bad = words.find((word) => FORBIDDEN_WORDS.has(word.toLowerCase()));
      const style = path.endsWith('.rs') ? /^[a-z0-9_]+$/ : path.endsWith('.cs') ? /^[A-Z]\w*$|^[a-z0-9-]+$/ : /^[a-z0-9-]+$/;
      return [
        ...(bad === undefined ? [] : [{ text: `"${bad}" names no idea` }]),
        ...(style.test(name) ? [] : [{ text: `${name} is not spelled as its neighbours are` }]),
      ];
    },
  },
  {
    name: 'length',
    why: `more than ${LINES_MOST} lines of code are more than one idea`,
    only: isCode,
    check: ({ path, text, codeLines }) => {
      if (isTest(path) || path.endsWith('_tests.rs')) return []; // a Rust module's tests, in a file beside it
      const tests = path.endsWith('.rs') ? text.split('\n').findIndex((line) => /^#\[cfg\((?:all\()?test\b/.test(line)) : -1;
      const count = (tests < 0 ? codeLines : codeLines.slice(0, tests)).filter((line) => line.trim() !== '').length;
      return count > LINES_MOST ? [{ text: `${count} lines of code` }] : [];
    },
  },
  {
    name: 'opening',
    why: 'a reader learns from the first lines what a file is',
    only: isCode,
    // A cmdlet's definition opens with its synopsis; a build script is known by its name, tests say what they claim.
    check: ({ path, text }) =>
      /^cmdlets\/[a-z]+-[a-z]+\.ts$|build\.rs$|_tests\.rs$|\.test\.ts$/.test(path) || /^(#![^\n]*\n)?\s*(\/\/|\/\*)/.test(text)
        ? []
        : [{ line: 1, text: 'does not open with what it is' }],
  },
  {
    name: 'source and target',
    why: 'one word per idea: source and target, never src and dst',
    only: isCode,
    check: ({ codeLines }) =>
      matching(
        codeLines,
        /(?<![\w/.'"-])(?:src|dst)(?![\w/.'"-])|\b(?:src|dst)(?:[A-Z_]\w*)\b|\w(?:Src|Dst)(?![a-z])|_(?:src|dst)\b/,
        'says src or dst',
      ),
  },
  {
    name: 'TODO',
    why: 'a promise without a place where it is kept is forgotten',
    only: /\.(tsx?|mjs|rs|c|h|cs|md)$/,
    check: ({ lines }) => matching(lines, /\b(TODO|FIXME|XXX|HACK)\b(?!.*#\d)/, 'has no issue number'),
  },
  {
    name: 'this machine',
    why: 'a checkout works anywhere: no path of one machine, no registry host',
    // Cargo names its index in every lock file; npm's has a rule of its own.
    only: /^(?!package-lock\.json|.*Cargo\.lock)/,
    check: ({ lines }) => [
      ...MACHINE_PATHS.flatMap((pattern) => matching(lines, pattern, 'names a path of one machine')),
      ...REGISTRY_HOSTS.flatMap((host) => matching(lines, new RegExp(host.replaceAll('.', '\\.')), 'names a registry host')),
    ],
  },
  {
    name: 'lock file',
    why: 'where packages come from is the business of the machine that installs them',
    only: /^package-lock\.json$/,
    check: ({ text }) => {
      const lock = JSON.parse(text);
      const own = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
      const recorded = lock.packages[''];
      const same = ['dependencies', 'devDependencies'].every((kind) => JSON.stringify(recorded[kind]) === JSON.stringify(own[kind]));
      // npm writes an incomplete lock file when node_modules is already there; npm ci then refuses it on a fresh machine.
      const lost = Object.entries(lock.packages).flatMap(([place, { dependencies = {}, optionalDependencies = {} }]) =>
        Object.keys({ ...dependencies, ...optionalDependencies }).filter((name) => {
          const folders = place.split('/node_modules/').map((_, i, parts) => parts.slice(0, i + 1).join('/node_modules/'));
          return ![...folders.map((folder) => (folder === '' ? '' : `${folder}/`)), ''].some(
            (folder) => lock.packages[`${folder}node_modules/${name}`],
          );
        }),
      );
      return [
        ...(lost.length === 0 ? [] : [{ text: `has no entry for ${[...new Set(lost)].join(', ')}; make it anew in an empty folder` }]),
        ...(text.includes('"resolved"') ? [{ text: 'holds download addresses; .npmrc leaves them out: run npm install again' }] : []),
        ...(same ? [] : [{ text: 'does not fit package.json; run npm install' }]),
      ];
    },
  },
  {
    name: 'top level',
    why: 'the first look at the checkout shows its parts and nothing else',
    only: /./,
    check: ({ path }) => (TOP_LEVEL.has(path.split('/')[0] ?? '') ? [] : [{ text: 'does not belong at the top level' }]),
  },
  door('napi', /^\s*use napi\b|\bnapi(_derive)?::/, /^native\/addon\//, 'the engine builds and tests without Node'),
  door(
    "the addon's binary",
    /createRequire|process\.dlopen|\.node['"`]/,
    /^(src\/native|scripts)\//,
    'one place knows how the addon is found and what it offers',
  ),
  door('node-powershell', /['"]node-powershell['"]/, /^src\/powershell\//, 'one wrapper runs PowerShell, and it never interpolates'),
  door('yargs', /from ['"]yargs/, /^src\/cli\//, 'one command line, in one place'),
];
// The rules and their test name what they forbid.
const exempt = new Set(['scripts/lint-house.mjs', 'test/unit/house/lints.test.ts']);

let root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** @param {string} checkout @returns {string[]} one finding per line */
export function lintHouse(checkout) {
  root = checkout;
  const findings = [];
  for (const path of codeFiles(checkout)) {
    const fitting = rules.filter((rule) => rule.only.test(path) && !(exempt.has(path) && /^door|^TODO/.test(rule.name)));
    if (/\.(gz|xz|png|vhdx?|img|zip)$/.test(path)) continue;
    const text = readFileSync(join(checkout, path), 'utf8');
    const code = withoutCommentsAndStrings(path, text);
    const file = { path, text, code, lines: text.split('\n'), codeLines: code.split('\n') };
    for (const rule of fitting) {
      for (const { line, text: what } of rule.check(file))
        findings.push(`${path}${line === undefined ? '' : `:${line}`}: ${rule.name}: ${what} (${rule.why})`);
    }
  }
  return findings;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const findings = lintHouse(process.argv[2] ?? root);
  for (const finding of findings) console.error(finding);
  process.exitCode = findings.length === 0 ? 0 : 1;
}
