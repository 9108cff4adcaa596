/**
 * Keeps concurrent set-ups of one checkout apart. The lock is a listening socket in the kernel's abstract name space: binding
 * it is atomic, the kernel frees it when the holder dies however it dies, and a waiter learns of that by its connection ending.
 */
import { createHash } from 'node:crypto';
import { realpathSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { root } from './step.mjs';

const name = `\0vmstorage-setup-${createHash('sha256').update(realpathSync(root)).digest('hex').slice(0, 32)}`;

/** @returns {Promise<import('node:net').Server | null>} null when another process holds it */
function tryLock() {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.on('error', () => socket.destroy()));
    server.once('error', (/** @type {NodeJS.ErrnoException} */ error) => (error.code === 'EADDRINUSE' ? resolve(null) : reject(error)));
    server.listen(name, () => resolve(server.unref()));
  });
}

/** Resolves when the present holder's end of a connection is gone. @returns {Promise<void>} */
function holderGone() {
  return new Promise((resolve) => {
    const socket = connect(name);
    socket.once('error', () => resolve());
    socket.once('close', () => resolve());
  });
}

/** @template T @param {() => T | Promise<T>} work @returns {Promise<T>} */
export async function withSetupLock(work) {
  let held = await tryLock();
  if (!held) console.error('setup: another set-up of this checkout is running; waiting for it ...');
  while (!held) {
    await holderGone();
    held = await tryLock();
  }
  try {
    return await work();
  } finally {
    held.close();
  }
}
