/**
 * Enforces scripts/layers.mjs on every import of every TypeScript file and on every `crate::` path of the engine. Tests inside
 * Rust files may use anything. By hand: `node scripts/lint-layers.mjs [checkout]`.
 */
import { readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseSync } from 'oxc-parser';
import { codeFiles } from './code-files.mjs';
import { rustLayers, typescriptLayers } from './layers.mjs';

/** @param {string} path @returns {string | null} */
export function typescriptLayerOf(path) {
  const fitting = Object.keys(typescriptLayers).filter((layer) => path.startsWith(`${layer}/`));
  return fitting.sort((a, b) => b.length - a.length)[0] ?? null;
}

/**
 * The relative imports of a file: what is imported, whether for types only, and the line.
 * @param {string} path @param {string} text
 */
export function relativeImports(path, text) {
  const { module, errors } = parseSync(path, text);
  if (errors.length > 0) throw new Error(`${path}: ${errors[0]?.message}`);
  const lineAt = (/** @type {number} */ offset) => text.slice(0, offset).split('\n').length;
  const found = [];
  for (const { moduleRequest, entries, start } of module.staticImports) {
    const typesOnly = text.slice(start).startsWith('import type') || (entries.length > 0 && entries.every(({ isType }) => isType));
    found.push({ target: moduleRequest.value, typesOnly, line: lineAt(start) });
  }
  for (const { entries, start } of module.staticExports) {
    for (const { moduleRequest, isType } of entries)
      if (moduleRequest) found.push({ target: moduleRequest.value, typesOnly: isType, line: lineAt(start) });
  }
  for (const { moduleRequest } of module.dynamicImports) {
    const literal = /^['"]([^'"]+)['"]$/.exec(text.slice(moduleRequest.start, moduleRequest.end));
    if (literal?.[1]) found.push({ target: literal[1], typesOnly: false, line: lineAt(moduleRequest.start) });
  }
  return found.filter(({ target }) => target.startsWith('.'));
}

/** @param {string} path @param {string} text @returns {string[]} */
export function typescriptFindings(path, text) {
  const layer = typescriptLayerOf(path);
  if (layer === null) return [`${path}: is in no layer; give its folder a line, with its reason, in scripts/layers.mjs`];
  const { may, types = [], why } = typescriptLayers[layer] ?? { may: [], why: '' };
  const findings = [];
  for (const { target, typesOnly, line } of relativeImports(path, text)) {
    const file = normalize(join(dirname(path), target));
    const used = typescriptLayerOf(file);
    if (file.startsWith('dist/') || (used === null && !file.includes('/'))) continue; // the addon's generated binding; package.json
    if (used === layer || (used !== null && may.includes(used)) || (typesOnly && used !== null && types.includes(used))) continue;
    const only = used !== null && types.includes(used) ? ' for more than types' : '';
    findings.push(`${path}:${line}: ${layer} may not import ${used ?? file}${only} (${why})`);
  }
  return findings;
}

/** Rust without comments and without its tests, lines kept. @param {string} text */
function rustCode(text) {
  const plain = text.replaceAll(/\/\*[^]*?\*\//g, (comment) => comment.replaceAll(/[^\n]/g, ' ')).replaceAll(/\/\/[^\n]*/g, '');
  const tests = /^#\[cfg\((?:all\()?test\b[^\n]*\)\]\n(?:#\[[^\n]*\n)*\s*(?:pub )?mod \w+ \{/m.exec(plain);
  return tests ? plain.slice(0, tests.index) : plain;
}

/** First path segments after `crate::`, groups included. @param {string} code */
function cratePaths(code) {
  const found = [];
  for (const match of code.matchAll(/(?<!\$)\bcrate::(\w+|\{)/g)) {
    const line = code.slice(0, match.index).split('\n').length;
    if (match[1] !== '{') {
      found.push({ name: match[1] ?? '', line });
      continue;
    }
    let depth = 1;
    let word = '';
    let expecting = true;
    for (let i = match.index + match[0].length; i < code.length && depth > 0; i++) {
      const character = code[i] ?? '';
      if (depth === 1 && expecting && /\w/.test(character)) word += character;
      else if (word !== '') {
        found.push({ name: word, line });
        word = '';
        expecting = false;
      }
      if (character === '{') depth++;
      else if (character === '}') depth--;
      else if (character === ',' && depth === 1) expecting = true;
    }
  }
  return found;
}

/** @param {string} path @param {string} text @returns {string[]} */
export function rustFindings(path, text) {
  const inside = /^native\/engine\/src\/(\w+)(\/|\.rs$)/.exec(path)?.[1];
  if (inside === undefined || inside === 'lib' || /(^|\/)tests?\.rs$|\/tests\//.test(path)) return [];
  const layer = rustLayers[inside];
  if (!layer) return [`${path}: native/engine/src/${inside} is in no layer; give it a line, with its reason, in scripts/layers.mjs`];
  if (layer.may.includes('*')) return [];
  return cratePaths(rustCode(text))
    .filter(({ name }) => name !== inside && rustLayers[name] !== undefined && !rustLayers[name].everywhere && !layer.may.includes(name))
    .map(({ name, line }) => `${path}:${line}: ${inside} may not use ${name} (${layer.why})`);
}

/** @param {string} root @returns {string[]} one finding per line */
export function lintLayers(root) {
  return codeFiles(root).flatMap((path) => {
    if (/\.(tsx?|mjs)$/.test(path) && !path.startsWith('native/')) return typescriptFindings(path, readFileSync(join(root, path), 'utf8'));
    return path.endsWith('.rs') ? rustFindings(path, readFileSync(join(root, path), 'utf8')) : [];
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const findings = lintLayers(process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), '..'));
  for (const finding of findings) console.error(finding);
  process.exitCode = findings.length === 0 ? 0 : 1;
}
