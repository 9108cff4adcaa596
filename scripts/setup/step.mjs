/** What a step of the set-up is, how steps run, and how a step knows that its work is done. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
export const cache = join(root, '.cache');

/** A step that could not do its work: stops the run. */
export class SetupFailure extends Error {
  /** @param {string} asked @param {string} wrong @param {string} advice */
  constructor(asked, wrong, advice) {
    super(wrong);
    this.asked = asked;
    this.advice = advice;
  }
}

/**
 * A step. `pending` looks, changes nothing and is quick: null when there is nothing to do, else what will be done.
 * `run` does it and may return gaps: what this machine lacks, one line each; the run goes on without it.
 * @typedef {{ name: string, pending: () => string | null, gaps?: () => string[], run: () => void | string[] }} Step
 */

/** @param {Step[]} steps @param {boolean} quiet */
export function runSteps(steps, quiet) {
  for (const step of steps) {
    const what = step.pending();
    let gaps;
    if (what === null) {
      if (!quiet) console.error(`setup: ${step.name}: up to date`);
      gaps = step.gaps?.() ?? [];
    } else {
      console.error(`setup: ${step.name}: ${what} ...`);
      const start = Date.now();
      gaps = step.run() ?? [];
      console.error(`setup: ${step.name}: done in ${((Date.now() - start) / 1000).toFixed(1)} s`);
    }
    for (const gap of gaps) console.error(`setup: ${step.name}: ${gap}`);
  }
}

/**
 * Runs a program and shows its output only when it fails.
 * @param {string} asked for the failure's first line
 * @param {string} program @param {string[]} args
 * @param {{ advice: string, env?: NodeJS.ProcessEnv, cwd?: string }} how
 * @returns {string} standard output
 */
export function runProgram(asked, program, args, { advice, env = {}, cwd = root }) {
  const done = spawnSync(program, args, {
    cwd,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 256 * 1024 * 1024,
  });
  if (done.error) throw new SetupFailure(asked, `${program} cannot be started: ${done.error.message}`, advice);
  if (done.status !== 0) {
    const text = `${done.stdout}\n${done.stderr}`.trim().split('\n').slice(-40).join('\n');
    throw new SetupFailure(asked, `${[program, ...args].join(' ')} ended with ${done.status ?? done.signal}:\n${text}`, advice);
  }
  return done.stdout;
}

/** First line that `program args` prints, or null when it cannot be started or fails. @param {string} program @param {string[]} args */
export function firstLineOf(program, args) {
  const done = spawnSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return done.error || done.status !== 0 ? null : (done.stdout.split('\n')[0] ?? '');
}

/** Every file below the given files and folders, sorted; build output and hidden entries are left out. @param {string[]} paths */
export function filesBelow(paths) {
  const found = [];
  const visit = (/** @type {string} */ path) => {
    if (!existsSync(path)) return;
    if (!statSync(path).isDirectory()) return void found.push(path);
    for (const name of readdirSync(path))
      if (name !== 'target' && name !== 'node_modules' && !name.startsWith('.')) visit(join(path, name));
  };
  paths.forEach(visit);
  return found.sort();
}

/** Hash of the files' names and contents, and of further words. @param {string[]} paths @param {string[]} words */
export function hashOf(paths, words = []) {
  const hash = createHash('sha256');
  for (const path of filesBelow(paths))
    hash
      .update(`${relative(root, path)}\0`)
      .update(readFileSync(path))
      .update('\0');
  for (const word of words) hash.update(`${word}\0`);
  return hash.digest('hex');
}

const stampPath = (/** @type {string} */ name) => join(cache, 'stamps', name);

/** Whether `name` was finished with this hash and everything it made is still there. @param {string} name @param {string} hash @param {string[]} made */
export function isStamped(name, hash, made) {
  return existsSync(stampPath(name)) && readFileSync(stampPath(name), 'utf8') === hash && made.every((path) => existsSync(path));
}
/** @param {string} name @param {string} hash */
export function stamp(name, hash) {
  mkdirSync(dirname(stampPath(name)), { recursive: true });
  writeFileSync(`${stampPath(name)}.new`, hash);
  renameSync(`${stampPath(name)}.new`, stampPath(name));
}
/** @param {string} name */
export function unstamp(name) {
  rmSync(stampPath(name), { force: true });
}
