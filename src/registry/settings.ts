/** Settings of the host, as Get-VMHost shows and Set-VMHost changes them: `settings.json`, written only once something was changed. */
import { dirname, join } from 'node:path';
import { VmStorageError } from '../model/errors.js';
import { errorCodeOf, hasCode, reasonOf } from '../os/errno.js';
import type { Files } from '../os/files.js';
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
  change(part: Partial<HostSettings>): Promise<HostSettings>;
  /** Called after each change: a raised MaximumStorageMigrations lets waiting moves start. */
  subscribe(listener: (settings: HostSettings) => void): () => void;
}

/** What Hyper-V starts with. */
export const MAXIMUM_STORAGE_MIGRATIONS_DEFAULT = 2;

export async function openSettings(paths: InstancePaths, files: Files): Promise<Settings> {
  let current: HostSettings = {
    maximumStorageMigrations: MAXIMUM_STORAGE_MIGRATIONS_DEFAULT,
    virtualHardDiskPath: join(paths.stateFolder, 'Virtual Hard Disks'),
    virtualMachinePath: paths.stateFolder,
  };
  try {
    const parsed = parseSettings(await files.readText(paths.settingsFile));
    if (parsed.rule !== undefined) {
      throw new VmStorageError(
        'ImageCorrupt',
        `The settings '${paths.settingsFile}' cannot be used: ${parsed.rule}. They were not changed. Correct them, or move the file away.`,
      );
    }
    const { schema: _, ...settings } = parsed.value;
    current = settings;
  } catch (error) {
    if (error instanceof VmStorageError) throw error;
    if (!hasCode(error, 'ENOENT'))
      throw new VmStorageError(errorCodeOf(error), `The settings '${paths.settingsFile}' cannot be read: ${reasonOf(error)}.`, {
        target: paths.settingsFile,
        cause: error,
      });
  }
  const listeners = new Set<(settings: HostSettings) => void>();
  let last: Promise<unknown> = Promise.resolve();
  return {
    get current() {
      return current;
    },
    change(part) {
      const result = last.then(async () => {
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
