/**
 * Keeps the logs of workers, QEMU and consoles at a bounded size. Their writers hold them open with O_APPEND and know nothing of us, so a
 * log is copied (its newest part) to `<name>.1` and cut to nothing; the writer goes on at the new end. A few lines written between copy
 * and cut are lost: these are diagnostics, not data.
 */
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode, isRefusedWrite } from './errno.js';

/** Two of them per log: what fits an attachment. */
export const LOG_MAX_BYTES = 4 * 1024 * 1024;

export async function boundLog(file: string, maxBytes: number = LOG_MAX_BYTES): Promise<boolean> {
  let handle;
  try {
    handle = await fs.open(file, fs.constants.O_RDWR | fs.constants.O_NOFOLLOW | fs.constants.O_NONBLOCK);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false;
    throw error;
  }
  try {
    const { size } = await handle.stat();
    if (size <= maxBytes) return false;
    const tail = Buffer.alloc(maxBytes);
    const { bytesRead } = await handle.read(tail, 0, maxBytes, size - maxBytes);
    try {
      await fs.writeFile(`${file}.1`, tail.subarray(0, bytesRead), { mode: 0o600 });
    } catch (error) {
      if (!isRefusedWrite(error)) throw error; // no room for both: what is cut is given back to those who need it more
    }
    await handle.truncate(0);
    return true;
  } finally {
    await handle.close();
  }
}

/** Every `*.log` of every folder below `logsFolder`, and of it, but `own`: that one's writer keeps it bounded itself (log-file.ts). */
export async function boundLogs(logsFolder: string, own: string, maxBytes: number = LOG_MAX_BYTES): Promise<void> {
  const failures: unknown[] = [];
  // One that cannot be cut, or is no file, keeps no other from it.
  const bound = (path: string): Promise<unknown> => boundLog(path, maxBytes).catch((cause: unknown) => failures.push(cause));
  for (const entry of await fs.readdir(logsFolder, { withFileTypes: true })) {
    const path = join(logsFolder, entry.name);
    if (entry.isFile() && entry.name.endsWith('.log') && path !== own) await bound(path);
    if (!entry.isDirectory()) continue;
    for (const { name } of (await fs.readdir(path, { withFileTypes: true })).filter((one) => one.isFile())) {
      if (name.endsWith('.log')) await bound(join(path, name));
    }
  }
  if (failures.length > 0) throw failures[0];
}
