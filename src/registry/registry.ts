/**
 * Which virtual machines there are: `registry.json` (VM id -> `.vmcx`) and one `.vmcx` (JSON) per machine at `<path>/Virtual Machines/<id>.vmcx`.
 *
 * Both are replaced whole and fsynced. A file that cannot be read, is corrupt or of a newer version is reported with the rule it breaks and is
 * never written over; its machine is a fault until the file is right again. Changes are made one after another, in order of arrival.
 */
import { stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { VmStorageError, type ErrorCode } from '../model/errors.js';
import type { VmConfiguration } from '../model/vm.js';
import { errorCodeOf, hasCode, reasonOf } from '../os/errno.js';
import type { Files } from '../os/files.js';
import type { Log } from '../os/log.js';
import type { Look } from '../os/outside-look.js';
import { runName, type InstancePaths } from '../os/paths.js';
import { brokenRule, parseRegistry, parseVmConfiguration } from './schema.js';

/** A registered VM as it is on disk now. A new object after each change; hold ids, not records, across awaits. */
export interface VmRecord {
  readonly configuration: VmConfiguration;
  /** Absolute path of its `.vmcx`. */
  readonly configurationFile: string;
}

/** A registered VM whose `.vmcx` cannot be used, and which rule it breaks. */
export interface VmFault {
  readonly vmId: string;
  readonly configurationFile: string;
  readonly reason: string;
  /** ObjectNotFound: it is not there; ImageCorrupt: it breaks a rule; else what the system refused. */
  readonly code: ErrorCode;
}

/** Who holds a disk file or device, found by identity (device and inode), not by spelling. */
export interface DiskOwner {
  readonly vmId: string;
  readonly vmName: string;
  readonly path: string;
}

export interface Registry {
  list(): readonly VmRecord[];
  faults(): readonly VmFault[];
  /** Reads the files of the faulty again: a file system that was not mounted yet may be there now. One that hangs is waited for a little. */
  recheck(): Promise<void>;
  byId(vmId: string): VmRecord | undefined;
  /** Told of every VM that is added, changed or removed, afterwards. */
  subscribe(listener: (vmId: string) => void): () => void;
  /** By id in "D" form, else by name without regard to case. Names are not unique (as in Hyper-V), so several may match. */
  find(nameOrId: string): readonly VmRecord[];
  /** `<path>/Virtual Machines/<id>.vmcx` */
  configurationFileUnder(path: string, vmId: string): string;
  /** The VM that has this file or device attached, whatever the spelling, or null. */
  diskOwner(path: string): Promise<DiskOwner | null>;
  /** Registers a new VM: writes its configuration (exclusively) and the registry. */
  add(configuration: VmConfiguration): Promise<VmRecord>;
  /** Changes a VM in place: the same file, the same registry entry. */
  update(configuration: VmConfiguration): Promise<VmRecord>;
  /** Forgets the VM, then deletes its .vmcx. Disks stay. */
  remove(vmId: string): Promise<void>;

  // The three steps of moving a configuration, each durable (file and folder fsynced) when it resolves, each idempotent, so that
  // recovery may repeat them in order: write, repoint, delete.
  /** Writes a configuration file. An existing file is replaced only if it is this VM's own, else AlreadyExists. */
  writeConfiguration(configuration: VmConfiguration, file: string): Promise<void>;
  /** Makes the registry point at `file`, whose content becomes the VM's configuration from here on. */
  repoint(vmId: string, file: string): Promise<VmRecord>;
  /** Deletes a configuration file that the registry no longer points at; a missing one is fine, another VM's is refused. */
  deleteConfiguration(vmId: string, file: string): Promise<void>;
  /** All three; `file` equal to the present one is an update in place. */
  replaceConfiguration(configuration: VmConfiguration, file: string): Promise<VmRecord>;
}

export const configurationFileUnder = (path: string, vmId: string): string => join(path, 'Virtual Machines', `${vmId}.vmcx`);

/**
 * Reads everything. Rejects when registry.json itself cannot be used: without it nothing may be written. `look`: whether configurations are
 * there, asked before they are read.
 */
export async function openRegistry(paths: InstancePaths, files: Files, log: Log, look: Look): Promise<Registry> {
  const registry = new FileRegistry(paths, files, log, look);
  await registry.load();
  return registry;
}

type Fault = { readonly file: string; readonly reason: string; readonly code: ErrorCode };
type Entry = { readonly file: string; readonly configuration: VmConfiguration } | Fault;

class FileRegistry implements Registry {
  readonly #entries = new Map<string, Entry>();
  readonly #listeners = new Set<(vmId: string) => void>();
  #last: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly paths: InstancePaths,
    private readonly files: Files,
    private readonly log: Log,
    private readonly look: Look,
  ) {}

  async load(): Promise<void> {
    const text = await this.#textOf(this.paths.registryFile);
    if (text === null) return;
    const parsed = parseRegistry(text);
    if (parsed.rule !== undefined) {
      throw new VmStorageError(
        'ImageCorrupt',
        `The registry '${this.paths.registryFile}' cannot be used: ${parsed.rule}. It was not changed. Restore it, or move it away to start without machines.`,
      );
    }
    const machines = Object.entries(parsed.value.machines).map(([vmId, file]) => ({ vmId, file }));
    for (const [vmId, entry] of await this.#readReachable(machines)) {
      this.#entries.set(vmId, entry);
      if ('reason' in entry) this.log.error({ vmId, file: entry.file, reason: entry.reason }, 'a configuration cannot be used');
    }
  }

  list(): readonly VmRecord[] {
    return [...this.#entries.values()].flatMap((entry) => ('reason' in entry ? [] : [toRecord(entry)]));
  }

  faults(): readonly VmFault[] {
    return [...this.#entries].flatMap(([vmId, entry]) =>
      'reason' in entry ? [{ vmId, configurationFile: entry.file, reason: entry.reason, code: entry.code }] : [],
    );
  }

  /** Not in the queue: whoever asks what there is does not wait for whoever writes, whose file system may hang. */
  async recheck(): Promise<void> {
    const before = new Map([...this.#entries].flatMap(([vmId, entry]) => ('reason' in entry ? [[vmId, entry] as const] : [])));
    if (before.size === 0) return;
    for (const [vmId, entry] of await this.#readReachable([...before].map(([vmId, { file }]) => ({ vmId, file })))) {
      // Removed or repointed meanwhile: that counts.
      if (this.#entries.get(vmId) !== before.get(vmId)) continue;
      this.#entries.set(vmId, entry);
      if (!('reason' in entry)) this.#tell(vmId);
    }
  }

  /** Reading from a file system that hangs would never end: only what has just been seen is read. */
  async #readReachable(machines: readonly { readonly vmId: string; readonly file: string }[]): Promise<readonly [string, Entry][]> {
    const seen = await this.look(machines.map(({ file }) => file));
    return Promise.all(
      machines.map(async ({ vmId, file }): Promise<[string, Entry]> => {
        const silent = seen.get(file)?.is === 'silent';
        return [vmId, silent ? { file, reason: 'its file system does not answer', code: 'StorageFailure' } : await this.#read(vmId, file)];
      }),
    );
  }

  byId(vmId: string): VmRecord | undefined {
    const entry = this.#entries.get(vmId.toLowerCase());
    return entry === undefined || 'reason' in entry ? undefined : toRecord(entry);
  }

  find(nameOrId: string): readonly VmRecord[] {
    const byId = this.byId(nameOrId);
    if (byId) return [byId];
    const name = nameOrId.toLowerCase();
    return this.list().filter((vm) => vm.configuration.name.toLowerCase() === name);
  }

  configurationFileUnder(path: string, vmId: string): string {
    return configurationFileUnder(path, vmId);
  }

  async diskOwner(path: string): Promise<DiskOwner | null> {
    const wanted = await fileIdentity(path);
    for (const { configuration } of this.list()) {
      for (const disk of configuration.disks) {
        if (resolve(disk.path) === resolve(path) || (wanted !== null && (await fileIdentity(disk.path)) === wanted)) {
          return { vmId: configuration.id, vmName: configuration.name, path: disk.path };
        }
      }
    }
    return null;
  }

  add(configuration: VmConfiguration): Promise<VmRecord> {
    return this.#queue(async () => {
      for (const vmId of this.#entries.keys()) {
        if (runName(vmId) !== runName(configuration.id)) continue;
        throw new VmStorageError(
          'AlreadyExists',
          `The virtual machine id ${configuration.id} cannot be used: ${vmId} begins with the same 8 digits.`,
          { target: configuration.id },
        );
      }
      const file = configurationFileUnder(configuration.path, configuration.id);
      await this.#write(configuration, file);
      try {
        await this.#point(configuration.id, { file, configuration });
      } catch (error) {
        await this.files
          .removeDurably(file)
          .catch((cause: unknown) => this.log.warn({ file, reason: reasonOf(cause) }, 'a configuration file stays behind'));
        throw error;
      }
      return toRecord({ file, configuration });
    });
  }

  update(configuration: VmConfiguration): Promise<VmRecord> {
    return this.#queue(async () => {
      const { file } = this.#known(configuration.id);
      await this.#write(configuration, file);
      this.#entries.set(configuration.id, { file, configuration });
      this.#tell(configuration.id);
      return toRecord({ file, configuration });
    });
  }

  remove(vmId: string): Promise<void> {
    return this.#queue(async () => {
      const { file } = this.#known(vmId);
      await this.#point(vmId, null);
      await this.#delete(vmId, file);
    });
  }

  writeConfiguration(configuration: VmConfiguration, file: string): Promise<void> {
    return this.#queue(() => this.#write(configuration, file));
  }

  repoint(vmId: string, file: string): Promise<VmRecord> {
    return this.#queue(() => this.#repoint(vmId, file));
  }

  deleteConfiguration(vmId: string, file: string): Promise<void> {
    return this.#queue(() => this.#delete(vmId, file));
  }

  replaceConfiguration(configuration: VmConfiguration, file: string): Promise<VmRecord> {
    return this.#queue(async () => {
      const before = this.#known(configuration.id).file;
      await this.#write(configuration, file);
      const record = await this.#repoint(configuration.id, file);
      if (before !== file) await this.#delete(configuration.id, before);
      return record;
    });
  }

  async #repoint(vmId: string, file: string): Promise<VmRecord> {
    this.#known(vmId);
    const entry = await this.#read(vmId, file);
    if ('reason' in entry)
      throw new VmStorageError(entry.code, `The configuration '${file}' cannot be used: ${entry.reason}.`, { target: file });
    await this.#point(vmId, entry);
    return toRecord(entry);
  }

  /** Writes registry.json with the change, then adopts the change. */
  async #point(vmId: string, entry: Entry | null): Promise<void> {
    const machines = Object.fromEntries([...this.#entries].map(([id, { file }]) => [id, file]));
    if (entry === null) delete machines[vmId];
    else machines[vmId] = entry.file;
    const { registryFile } = this.paths;
    try {
      await this.files.makeFolders(dirname(registryFile));
      await this.files.replace(registryFile, toJson({ schema: 1, machines }));
    } catch (cause) {
      throw writeError(cause, `The registry '${registryFile}' cannot be written`, registryFile);
    }
    if (entry === null) this.#entries.delete(vmId);
    else this.#entries.set(vmId, entry);
    this.#tell(vmId);
  }

  subscribe(listener: (vmId: string) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  #tell(vmId: string): void {
    for (const listener of this.#listeners) listener(vmId);
  }

  async #write(configuration: VmConfiguration, file: string): Promise<void> {
    const text = toJson(configuration);
    const rule = parseVmConfiguration(text).rule ?? brokenRule(configuration); // what we could not read back is not written
    if (rule)
      throw new VmStorageError('InvalidParameter', `The configuration of virtual machine "${configuration.name}" is not valid: ${rule}.`, {
        target: configuration.name,
      });
    try {
      await this.files.makeFolders(dirname(file));
      const present = await this.#textOf(file);
      if (present === null) await this.files.createExclusively(file, text);
      else if (parseVmConfiguration(present).value?.id === configuration.id) await this.files.replace(file, text);
      else throw Object.assign(new Error("there is already a file that is not this machine's"), { code: 'EEXIST' });
    } catch (cause) {
      throw writeError(cause, `The configuration of virtual machine "${configuration.name}" cannot be written to '${file}'`, file);
    }
  }

  async #delete(vmId: string, file: string): Promise<void> {
    if (this.#entries.get(vmId)?.file === file)
      throw new VmStorageError('InvalidState', `'${file}' is the present configuration of ${vmId}; it is not deleted.`, { target: file });
    const text = await this.#textOf(file);
    if (text !== null && parseVmConfiguration(text).value?.id !== vmId) {
      throw new VmStorageError('InvalidState', `'${file}' does not hold the configuration of ${vmId}; it is not deleted.`, {
        target: file,
      });
    }
    try {
      await this.files.removeDurably(file);
    } catch (cause) {
      if (hasCode(cause, 'ENOENT')) return; // its folder is gone too
      throw writeError(cause, `The configuration file '${file}' cannot be deleted`, file);
    }
  }

  async #read(vmId: string, file: string): Promise<Entry> {
    let text: string;
    try {
      text = await this.files.readText(file);
    } catch (error) {
      return { file, reason: reasonOf(error), code: hasCode(error, 'ENOENT', 'ENOTDIR') ? 'ObjectNotFound' : errorCodeOf(error) };
    }
    const parsed = parseVmConfiguration(text);
    if (parsed.rule !== undefined) return { file, reason: parsed.rule, code: 'ImageCorrupt' };
    if (parsed.value.id !== vmId) return { file, reason: `it is the configuration of ${parsed.value.id}`, code: 'ImageCorrupt' };
    return { file, configuration: parsed.value };
  }

  async #textOf(file: string): Promise<string | null> {
    try {
      return await this.files.readText(file);
    } catch (error) {
      if (hasCode(error, 'ENOENT', 'ENOTDIR')) return null;
      throw new VmStorageError(errorCodeOf(error), `'${file}' cannot be read: ${reasonOf(error)}.`, { target: file, cause: error });
    }
  }

  #known(vmId: string): Entry {
    const entry = this.#entries.get(vmId);
    if (!entry)
      throw new VmStorageError('ObjectNotFound', `Hyper-V was unable to find a virtual machine with id "${vmId}".`, { target: vmId });
    return entry;
  }

  #queue<T>(body: () => Promise<T>): Promise<T> {
    const result = this.#last.then(body);
    this.#last = result.catch(() => {});
    return result;
  }
}

/** What a file or device is, whatever it is called: device and inode, or the number of a block device. Null if it is not there. */
export async function fileIdentity(path: string): Promise<string | null> {
  try {
    const found = await stat(path, { bigint: true });
    return found.isBlockDevice() ? `block ${found.rdev}` : `file ${found.dev}:${found.ino}`;
  } catch {
    return null; // whoever opens it will say why
  }
}

function toRecord(entry: { file: string; configuration: VmConfiguration }): VmRecord {
  return { configuration: entry.configuration, configurationFile: entry.file };
}

const toJson = (value: unknown): string => JSON.stringify(value, null, 2) + '\n';

function writeError(cause: unknown, sentence: string, target: string): VmStorageError {
  if (cause instanceof VmStorageError) return cause;
  return new VmStorageError(errorCodeOf(cause), `${sentence}: ${reasonOf(cause)}.`, { target, cause });
}
