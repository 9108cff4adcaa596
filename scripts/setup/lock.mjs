/**
 * Keeps concurrent set-ups of one checkout apart: a lock (flock) on a file of the checkout, where nobody else can take it. Node has no call
 * for it, so flock(1) holds it, and lets go when its standard input ends, however we end.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { cache, SetupFailure } from './step.mjs';

const BUSY = 75;

/** @param {string[]} how @returns {Promise<{ release: () => void } | null>} null when another process holds it and `how` does not wait */
async function lock(...how) {
  mkdirSync(cache, { recursive: true });
  const holder = spawn('flock', [...how, '--conflict-exit-code', String(BUSY), join(cache, 'setup.lock'), '-c', 'echo held; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const code = await Promise.race([
    once(holder.stdout, 'data').then(() => 'held'),
    once(holder, 'exit').then(([ended]) => ended),
    once(holder, 'error').then(([error]) => error),
  ]);
  if (code === BUSY) return null;
  if (code !== 'held') {
    const wrong = code instanceof Error ? code.message : `flock ended with ${code}`;
    throw new SetupFailure('keep another set-up of this checkout away', wrong, 'install util-linux, which has flock');
  }
  holder.unref();
  holder.stdin.unref?.();
  holder.stdout.destroy();
  return { release: () => holder.stdin.end() };
}

/** @template T @param {() => T | Promise<T>} work @returns {Promise<T>} */
export async function withSetupLock(work) {
  let held = await lock('--nonblock');
  if (!held) {
    console.error('setup: another set-up of this checkout is running; waiting for it ...');
    held = await lock();
  }
  try {
    return await work();
  } finally {
    held?.release();
  }
}
