/**
 * Which virtual machines there are: `registry.json` (VM id -> `.vmcx`) and one `.vmcx` (JSON) per machine at `<path>/Virtual Machines/<id>.vmcx`.
 *
 * Both are replaced whole and fsynced. A file that cannot be read, is corrupt, of a newer version or not the one that was written here is
 * reported with the rule it breaks and is never written over; its machine is a fault until the file is right again, or is taken in by
 * Import-VM. Changes of one machine are made one after another, in order of arrival, and so are those of registry.json; a file system that
 * hangs under one machine holds up no other.
 */
import { stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { VmStorageError, type ErrorCode } from '../model/errors.js';
import type { VmConfiguration } from '../model/vm.js';
import { errorCodeOf, hasCode, reasonOf } from '../os/errno.js';
import type { Files } from '../os/files.js';
import type { HeldFolders, Owner } from '../os/held-folders.js';
import type { Log } from '../os/log.js';
import type { Look } from '../os/outside-look.js';
import { runName, type InstancePaths } from '../os/paths.js';
import { ConfigurationFiles, isOfTheHost, isStamped, stampOf, type FoundConfiguration } from './configuration-files.js';
import { brokenRule, parseRegistry, parseVmConfiguration, type RegisteredMachine, type Stamp } from './schema.js';

/** A registered VM as it is on disk now. A new object after each change; hold ids, not records, across awaits. */
export interface VmRecord {
  readonly configuration: VmConfiguration;
  /** Absolute path of its `.vmcx`. */
  readonly configurationFile: string;
  /** Who made it, and may have part in the folders of its files. */
  readonly owner: Owner;
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
  add(configuration: VmConfiguration, owner: Owner): Promise<VmRecord>;
  /** What a configuration file says that may be nobody's word yet: for a person who vouches for it. */
  examine(file: string, owner: Owner): Promise<VmConfiguration>;
  /** Registers a VM whose file is there, or puts a fault right: the file is written anew, and believed from now on. */
  adopt(configuration: VmConfiguration, file: string, owner: Owner): Promise<VmRecord>;
  /** Changes a VM in place: the same file, the same registry entry. */
  update(configuration: VmConfiguration): Promise<VmRecord>;
  /** Forgets the VM, then deletes its .vmcx. Disks stay. */
  remove(vmId: string): Promise<void>;

  // The three steps of moving a configuration, each durable (file and folder fsynced) when it resolves, each idempotent, so that
  // recovery may repeat them in order: write, repoint, delete.
  /** Writes a configuration file. An existing file is replaced only if it is this VM's own, else AlreadyExists. */
  writeConfiguration(configuration: VmConfiguration, file: string): Promise<void>;
  /** Whether this very configuration was written to `file` and is there. */
  isWritten(configuration: VmConfiguration, file: string): Promise<boolean>;
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
export async function openRegistry(paths: InstancePaths, files: Files, folders: HeldFolders, log: Log, look: Look): Promise<Registry> {
  const registry = new FileRegistry(paths, files, new ConfigurationFiles(folders), log, look);
  await registry.load();
  return registry;
}

type Fault = RegisteredMachine & { readonly reason: string; readonly code: ErrorCode };
type GoodEntry = RegisteredMachine & { readonly configuration: VmConfiguration };
type Entry = GoodEntry | Fault;

/** Of one machine: its present file, the one before, and a place a move has prepared; each perhaps twice, around a crash. */
const STAMPS_MAX = 8;

class FileRegistry implements Registry {
  readonly #entries = new Map<string, Entry>();
  readonly #listeners = new Set<(vmId: string) => void>();
  /** By machine, and of registry.json: what is last in line. */
  readonly #lines = new Map<string, Promise<unknown>>();

  constructor(
    private readonly paths: InstancePaths,
    private readonly files: Files,
    private readonly configurations: ConfigurationFiles,
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
    const { machines, first } = parsed.value;
    for (const [vmId, entry] of await this.#readReachable(Object.entries(machines), first === true)) {
      this.#entries.set(vmId, entry);
      if ('reason' in entry) this.log.error({ vmId, file: entry.file, reason: entry.reason }, 'a configuration cannot be used');
    }
    if (first === true && this.#entries.size > 0)
      await this.#save().catch((cause: unknown) =>
        this.log.warn({ reason: reasonOf(cause) }, 'the registry of 0.1 could not be written in the new form; the next change writes it'),
      );
  }

  list(): readonly VmRecord[] {
    return [...this.#entries.values()].flatMap((entry) => ('reason' in entry ? [] : [toRecord(entry)]));
  }

  faults(): readonly VmFault[] {
    return [...this.#entries].flatMap(([vmId, entry]) =>
      'reason' in entry ? [{ vmId, configurationFile: entry.file, reason: entry.reason, code: entry.code }] : [],
    );
  }

  /** In no line: whoever asks what there is does not wait for whoever writes, whose file system may hang. */
  async recheck(): Promise<void> {
    const before = new Map([...this.#entries].flatMap(([vmId, entry]) => ('reason' in entry ? [[vmId, entry] as const] : [])));
    if (before.size === 0) return;
    for (const [vmId, entry] of await this.#readReachable([...before], false)) {
      // Removed or repointed meanwhile: that counts.
      if (this.#entries.get(vmId) !== before.get(vmId)) continue;
      this.#entries.set(vmId, entry);
      if (!('reason' in entry)) this.#tell(vmId);
    }
  }

  /** Reading from a file system that hangs would never end: only what has just been seen is read. */
  async #readReachable(
    machines: readonly (readonly [string, RegisteredMachine])[],
    ofTheFirst: boolean,
  ): Promise<readonly [string, Entry][]> {
    const seen = await this.look(machines.map(([, { file }]) => file));
    return Promise.all(
      machines.map(async ([vmId, machine]): Promise<[string, Entry]> => {
        const silent = seen.get(machine.file)?.is === 'silent';
        return [
          vmId,
          silent
            ? { ...registered(machine), reason: 'its file system does not answer', code: 'StorageFailure' }
            : await this.#read(vmId, machine, ofTheFirst),
        ];
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

  add(configuration: VmConfiguration, owner: Owner): Promise<VmRecord> {
    return this.#inLine(runName(configuration.id), async () => {
      this.#refuseSameRunName(configuration.id);
      const file = configurationFileUnder(configuration.path, configuration.id);
      const stamp = await this.#write(configuration, file, owner);
      try {
        return await this.#point({ file, owner, written: [stamp], configuration });
      } catch (error) {
        await this.configurations
          .remove(file, owner, ({ facts }) => isStamped(file, facts, [stamp]))
          .catch((cause: unknown) => this.log.warn({ file, reason: reasonOf(cause) }, 'a configuration file stays behind'));
        throw error;
      }
    });
  }

  /** Machines have folders of their names (os/paths.ts). */
  #refuseSameRunName(id: string): void {
    const other = [...this.#entries.keys()].find((vmId) => runName(vmId) === runName(id));
    if (other === undefined) return;
    throw new VmStorageError('AlreadyExists', `The virtual machine id ${id} cannot be used: ${other} begins with the same 8 digits.`, {
      target: id,
    });
  }

  async examine(file: string, owner: Owner): Promise<VmConfiguration> {
    const found = await this.configurations.read(file, owner);
    if (found === null) throw new VmStorageError('ObjectNotFound', `There is no configuration '${file}'.`, { target: file });
    const parsed = parseVmConfiguration(found.text);
    if (parsed.rule !== undefined)
      throw new VmStorageError('ImageCorrupt', `The configuration '${file}' cannot be used: ${parsed.rule}.`, { target: file });
    return parsed.value;
  }

  adopt(configuration: VmConfiguration, file: string, owner: Owner): Promise<VmRecord> {
    return this.#inLine(configuration.id, async () => {
      if (!this.#entries.has(configuration.id)) this.#refuseSameRunName(configuration.id);
      const stamp = await this.#write(configuration, file, owner);
      return this.#point({ file, owner, written: [stamp], configuration });
    });
  }

  update(configuration: VmConfiguration): Promise<VmRecord> {
    return this.#inLine(configuration.id, async () => {
      const { file, owner } = this.#known(configuration.id);
      const stamp = await this.#write(configuration, file, owner);
      const entry: GoodEntry = { file, owner, written: withStamp(this.#known(configuration.id).written, stamp, file), configuration };
      this.#entries.set(configuration.id, entry);
      this.#tell(configuration.id);
      return toRecord(entry);
    });
  }

  remove(vmId: string): Promise<void> {
    return this.#inLine(vmId, async () => {
      const { file, owner } = this.#known(vmId);
      await this.#forget(vmId);
      await this.#delete(vmId, file, owner);
    });
  }

  writeConfiguration(configuration: VmConfiguration, file: string): Promise<void> {
    return this.#inLine(configuration.id, async () => {
      await this.#write(configuration, file, this.#known(configuration.id).owner);
    });
  }

  repoint(vmId: string, file: string): Promise<VmRecord> {
    return this.#inLine(vmId, () => this.#repoint(vmId, file));
  }

  isWritten(configuration: VmConfiguration, file: string): Promise<boolean> {
    return this.#inLine(configuration.id, async () => {
      const entry = await this.#read(configuration.id, { ...this.#known(configuration.id), file }, false);
      return !('reason' in entry) && isDeepStrictEqual(entry.configuration, configuration);
    });
  }

  deleteConfiguration(vmId: string, file: string): Promise<void> {
    return this.#inLine(vmId, () => this.#delete(vmId, file, this.#entries.get(vmId)?.owner ?? null));
  }

  replaceConfiguration(configuration: VmConfiguration, file: string): Promise<VmRecord> {
    return this.#inLine(configuration.id, async () => {
      const { file: before, owner } = this.#known(configuration.id);
      await this.#write(configuration, file, owner);
      const record = await this.#repoint(configuration.id, file);
      if (before !== file) await this.#delete(configuration.id, before, owner);
      return record;
    });
  }

  async #repoint(vmId: string, file: string): Promise<VmRecord> {
    const entry = await this.#read(vmId, { ...this.#known(vmId), file }, false);
    if ('reason' in entry)
      throw new VmStorageError(entry.code, `The configuration '${file}' cannot be used: ${entry.reason}.`, { target: file });
    return this.#point(entry);
  }

  /** Writes registry.json with the change, then adopts the change. */
  async #point(entry: GoodEntry): Promise<VmRecord> {
    await this.#save((machines) => void (machines[entry.configuration.id] = registered(entry)));
    this.#entries.set(entry.configuration.id, entry);
    this.#tell(entry.configuration.id);
    return toRecord(entry);
  }

  subscribe(listener: (vmId: string) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  #tell(vmId: string): void {
    for (const listener of this.#listeners) listener(vmId);
  }

  async #forget(vmId: string): Promise<void> {
    await this.#save((machines) => void delete machines[vmId]);
    this.#entries.delete(vmId);
    this.#tell(vmId);
  }

  /** Durable when it resolves: what is known now, with `change`. */
  #save(change: (machines: { [vmId: string]: RegisteredMachine }) => void = () => undefined): Promise<void> {
    return this.#inLine(THE_REGISTRY, async () => {
      const machines = Object.fromEntries([...this.#entries].map(([id, entry]) => [id, registered(entry)]));
      change(machines);
      const { registryFile } = this.paths;
      try {
        await this.files.makeFolders(dirname(registryFile));
        await this.files.replace(registryFile, toJson({ schema: 2, machines }));
      } catch (cause) {
        throw writeError(cause, `The registry '${registryFile}' cannot be written`, registryFile);
      }
    });
  }

  /** The stamp of what was written: it is in registry.json before the file has its name, unless the machine is not registered yet. */
  async #write(configuration: VmConfiguration, file: string, owner: Owner): Promise<Stamp> {
    const text = toJson(configuration);
    const { id, name } = configuration;
    const rule = parseVmConfiguration(text).rule ?? brokenRule(configuration); // what we could not read back is not written
    if (rule)
      throw new VmStorageError('InvalidParameter', `The configuration of virtual machine "${name}" is not valid: ${rule}.`, {
        target: name,
      });
    let written: Stamp | undefined;
    const stamped = async (stamp: Stamp): Promise<void> => {
      written = stamp;
      const entry = this.#entries.get(id);
      if (!entry) return;
      // The old one stays: until the rename the file is that one.
      const kept = { ...entry, written: [stamp, ...entry.written].slice(0, STAMPS_MAX) };
      await this.#save((machines) => void (machines[id] = registered(kept)));
      this.#entries.set(id, kept);
    };
    const mayReplace = (found: FoundConfiguration): boolean => parseVmConfiguration(found.text).value?.id === id;
    try {
      await this.configurations.write(file, text, owner, mayReplace, stamped);
    } catch (cause) {
      if (cause instanceof VmStorageError && cause.target === this.paths.registryFile) throw cause;
      throw writeError(cause, `The configuration of virtual machine "${name}" cannot be written to '${file}'`, file);
    }
    return written!;
  }

  async #delete(vmId: string, file: string, owner: Owner): Promise<void> {
    if (this.#entries.get(vmId)?.file === file)
      throw new VmStorageError('InvalidState', `'${file}' is the present configuration of ${vmId}; it is not deleted.`, { target: file });
    const mayRemove = (found: FoundConfiguration): boolean => parseVmConfiguration(found.text).value?.id === vmId;
    let removed;
    try {
      removed = await this.configurations.remove(file, owner, mayRemove);
    } catch (cause) {
      throw writeError(cause, `The configuration file '${file}' cannot be deleted`, file);
    }
    if (!removed)
      throw new VmStorageError('InvalidState', `'${file}' does not hold the configuration of ${vmId}; it is not deleted.`, {
        target: file,
      });
  }

  /** `ofTheFirst`: registered by a host that kept no stamps. Never rejects. */
  async #read(vmId: string, machine: RegisteredMachine, ofTheFirst: boolean): Promise<Entry> {
    const fault = (reason: string, code: ErrorCode = 'ImageCorrupt'): Fault => ({ ...registered(machine), reason, code });
    let found;
    try {
      found = await this.configurations.read(machine.file, machine.owner);
    } catch (error) {
      if (error instanceof VmStorageError) return fault(error.message.replace(/\.$/, ''), error.code);
      return fault(reasonOf(error), errorCodeOf(error));
    }
    if (found === null) return fault('no such file or directory', 'ObjectNotFound');
    const { text, facts } = found;
    const adopted = ofTheFirst && isOfTheHost(facts) ? [stampOf(machine.file, facts)] : machine.written;
    const parsed = parseVmConfiguration(text);
    if (parsed.rule !== undefined) return fault(parsed.rule);
    if (parsed.value.id !== vmId) return fault(`it is the configuration of ${parsed.value.id}`);
    if (!isStamped(machine.file, facts, adopted))
      return fault(
        `it is not the file that this host has written (it belongs to user ${facts.uid}, mode ${facts.mode.toString(8).padStart(4, '0')}): somebody has replaced it`,
      );
    return { ...registered(machine), written: adopted, configuration: parsed.value };
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

  /** After what is in the same line already, whatever becomes of that. */
  #inLine<T>(line: string, body: () => Promise<T>): Promise<T> {
    const result = (this.#lines.get(line) ?? Promise.resolve()).then(body);
    const over = result.then(
      () => undefined,
      () => undefined,
    );
    this.#lines.set(line, over);
    void over.then(() => this.#lines.get(line) === over && this.#lines.delete(line));
    return result;
  }
}

const THE_REGISTRY = 'registry.json';

const registered = ({ file, owner, written }: RegisteredMachine): RegisteredMachine => ({ file, owner, written: [...written] });

/** After a write to `file`: of that one only the newest counts. */
const withStamp = (stamps: readonly Stamp[], stamp: Stamp, file: string): Stamp[] => [stamp, ...stamps.filter((one) => one.file !== file)];

/** What a file or device is, whatever it is called: device and inode, or the number of a block device. Null if it is not there. */
export async function fileIdentity(path: string): Promise<string | null> {
  try {
    const found = await stat(path, { bigint: true });
    return found.isBlockDevice() ? `block ${found.rdev}` : `file ${found.dev}:${found.ino}`;
  } catch {
    return null; // whoever opens it will say why
  }
}

function toRecord(entry: GoodEntry): VmRecord {
  return { configuration: entry.configuration, configurationFile: entry.file, owner: entry.owner };
}

const toJson = (value: unknown): string => JSON.stringify(value, null, 2) + '\n';

function writeError(cause: unknown, sentence: string, target: string): VmStorageError {
  // Of a held folder, which knows nothing of machines.
  if (cause instanceof VmStorageError) return new VmStorageError(cause.code, `${sentence}: ${cause.message}`, { target, cause });
  return new VmStorageError(errorCodeOf(cause), `${sentence}: ${reasonOf(cause)}.`, { target, cause });
}
