/**
 * Opens a link in the user's browser. The link is not put on a command line, where every user of the machine could read it: it stands in a file
 * of the user's own, which the browser is told to open and which leads on.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A link is good for a minute; afterwards the file is of no use. */
const FILE_LIMIT_MS = 60_000;

/** Whether there is a desktop to open a browser on. */
export const hasDesktop = (environment: NodeJS.ProcessEnv): boolean => Boolean(environment['DISPLAY'] || environment['WAYLAND_DISPLAY']);

/** Resolves with a function that removes the file; rejects when no browser can be started. */
export async function openBrowser(link: string): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), 'vmstorage-wizard-'));
  const remove = async (): Promise<void> => {
    clearTimeout(timer);
    await rm(folder, { recursive: true, force: true });
  };
  const timer = setTimeout(() => void remove(), FILE_LIMIT_MS);
  timer.unref();
  const file = join(folder, 'open.html');
  await writeFile(file, `<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=${link}">`, { mode: 0o600 });
  try {
    await new Promise<void>((resolve, reject) => {
      const browser = spawn('xdg-open', [file], { stdio: 'ignore', detached: true });
      browser.once('error', reject);
      browser.once('spawn', resolve);
      browser.unref();
    });
  } catch (error) {
    await remove();
    throw error;
  }
  return remove;
}
