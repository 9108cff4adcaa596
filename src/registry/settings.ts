/** Settings of the host, as Get-VMHost shows and Set-VMHost changes them: `settings.json`, written only once something was changed. */
import { dirname, join } from 'node:path';
import { VmStorageError } from '../model/errors.js';
import { errorCodeOf, hasCode, reasonOf } from '../os/errno.js';
import type { Files } from '../os/files.js';
import type { Log } from '../os/log.js';
import type { InstancePaths } from '../os/paths.js';
import { parseSettings } from './schema.js';

export interface HostSettings {
  /** Moves that run at the same time; further ones wait in order. */
  readonly maximumStorageMigrations: number;
  readonly virtualHardDiskPath: string;
  readonly virtualMachinePath: string;
}

export interface Settings {
  readonly current: HostSettings;
  /** Why the file cannot be used, naming it, or null. The defaults are in force then, and the file is left as it is. */
  readonly trouble: string | null;
  /** Rejects with InvalidState while there is a file that cannot be used: what is in it would be lost. */
  change(part: Partial<HostSettings>): Promise<HostSettings>;
  /** Called after each change: a raised MaximumStorageMigrations lets waiting moves start. */
  subscribe(listener: (settings: HostSettings) => void): () => void;
}

/** What Hyper-V starts with. */
export const MAXIMUM_STORAGE_MIGRATIONS_DEFAULT = 2;

export async function openSettings(paths: InstancePaths, files: Files, log: Log): Promise<Settings> {
  let trouble: string | null = null;
  let current: HostSettings = {
    maximumStorageMigrations: MAXIMUM_STORAGE_MIGRATIONS_DEFAULT,
    virtualHardDiskPath: join(paths.stateFolder, 'Virtual Hard Disks'),
    virtualMachinePath: paths.stateFolder,
  };
  try {
    const parsed = parseSettings(await files.readText(paths.settingsFile));
    if (parsed.rule === undefined) {
      const { schema: _, ...settings } = parsed.value;
      current = settings;
    } else trouble = `the settings '${paths.settingsFile}' cannot be used: ${parsed.rule}`;
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) trouble = `the settings '${paths.settingsFile}' cannot be read: ${reasonOf(error)}`;
  }
  // Guests that run need a host, whatever its settings were.
  if (trouble !== null) log.error({ file: paths.settingsFile, trouble }, 'the settings cannot be used; the defaults are in force');
  const listeners = new Set<(settings: HostSettings) => void>();
  let last: Promise<unknown> = Promise.resolve();
  return {
    get current() {
      return current;
    },
    trouble,
    change(part) {
      const result = last.then(async () => {
        if (trouble !== null) {
          throw new VmStorageError(
            'InvalidState',
            `The settings were not changed: ${trouble}. Correct the file, or move it away, and start the host again.`,
            { target: paths.settingsFile },
          );
        }
        const next = { ...current, ...part };
        const text = JSON.stringify({ schema: 1, ...next }, null, 2) + '\n';
        const rule = parseSettings(text).rule;
        if (rule !== undefined) throw new VmStorageError('InvalidParameter', `The host settings are not valid: ${rule}.`);
        try {
          await files.makeFolders(dirname(paths.settingsFile));
          await files.replace(paths.settingsFile, text);
        } catch (cause) {
          throw new VmStorageError(errorCodeOf(cause), `The settings '${paths.settingsFile}' cannot be written: ${reasonOf(cause)}.`, {
            target: paths.settingsFile,
            cause,
          });
        }
        current = next;
        for (const listener of listeners) listener(current);
        return current;
      });
      last = result.catch(() => {});
      return result;
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}
