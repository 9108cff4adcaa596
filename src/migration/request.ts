/**
 * What was asked, out of the bound parameters of Move-VMStorage: names and paths checked for form, nothing looked up. Pure.
 *
 * `-Vhds` is taken in every shape runbooks use: one hashtable or several, keys in any case, values that were wrapped objects.
 */
import * as path from 'node:path';
import { VmStorageError } from '../model/errors.js';
import type { WireValue } from './ports.js';

export interface VmReference {
  readonly by: 'id' | 'name';
  readonly text: string;
}

export interface VhdPair {
  readonly source: string;
  readonly target: string;
}

export type Destination =
  | { readonly kind: 'single'; readonly folder: string }
  | {
      readonly kind: 'multiple';
      readonly virtualMachinePath: string | null;
      readonly snapshotFilePath: string | null;
      readonly smartPagingFilePath: string | null;
      readonly vhds: readonly VhdPair[] | null;
    };

export interface MoveRequest {
  readonly vm: VmReference;
  readonly destination: Destination;
  readonly retainSources: boolean;
  readonly removeUnmanagedParents: boolean;
  readonly allowUnverifiedPaths: boolean;
  /** All that the disks may grow to has to be free at the destination. */
  readonly requireFullSize: boolean;
}

export interface BoundRecord {
  readonly parameterSet: string;
  readonly bound: { readonly [name: string]: WireValue };
  readonly cwd: string;
  /** Names that mean this host, in lower case. */
  readonly hostNames: readonly string[];
}

/** Linux: PATH_MAX counts the final NUL. */
const PATH_BYTES_MAX = 4095;
/** Linux: NAME_MAX. */
const NAME_BYTES_MAX = 255;
/** Disks a VM can have: 4 SCSI controllers of 64 places, 2 IDE of 2. */
const VHDS_MAX = 260;

export function readRequest(record: BoundRecord): MoveRequest {
  refuseOtherHosts(record);
  const { bound } = record;
  return {
    vm: readVm(bound),
    destination: readDestination(record),
    retainSources: bound['RetainVhdCopiesOnSource'] === true,
    removeUnmanagedParents: bound['RemoveSourceUnmanagedVhds'] === true,
    allowUnverifiedPaths: bound['AllowUnverifiedPaths'] === true,
    requireFullSize: bound['RequireFullSize'] === true,
  };
}

/** The text a VirtualMachine turns into when a script puts it into a string. */
const vmText = /^VirtualMachine \(Name = '(?:.*)'\) \[Id = '([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})'\]$/is;

export function readVm(bound: BoundRecord['bound']): VmReference {
  const given = bound['VM'] ?? bound['Name'];
  if (typeof given === 'string' && given !== '') {
    const id = vmText.exec(given)?.[1];
    return id === undefined ? { by: 'name', text: given } : { by: 'id', text: id };
  }
  if (given !== null && typeof given === 'object' && !Array.isArray(given) && typeof given['Id'] === 'string') {
    return { by: 'id', text: given['Id'] };
  }
  throw new VmStorageError('InvalidParameter', 'No virtual machine was named. Give one with -Name or -VM.');
}

function readDestination(record: BoundRecord): Destination {
  const { bound, parameterSet } = record;
  if (parameterSet.endsWith('SingleDestination')) {
    return { kind: 'single', folder: readPath(record, 'DestinationStoragePath', bound['DestinationStoragePath']) };
  }
  if (!parameterSet.endsWith('MultipleDestinations')) {
    throw new VmStorageError('InvalidParameter', `Move-VMStorage has no parameter set '${parameterSet}'.`);
  }
  const optional = (name: string): string | null => (isGiven(bound[name]) ? readPath(record, name, bound[name]) : null);
  const destination = {
    kind: 'multiple' as const,
    virtualMachinePath: optional('VirtualMachinePath'),
    snapshotFilePath: optional('SnapshotFilePath'),
    smartPagingFilePath: optional('SmartPagingFilePath'),
    vhds: isGiven(bound['Vhds']) ? readVhds(record, bound['Vhds']!) : null,
  };
  if (!destination.virtualMachinePath && !destination.snapshotFilePath && !destination.smartPagingFilePath && !destination.vhds) {
    throw new VmStorageError(
      'InvalidParameter',
      'Nothing to move was named. Give -DestinationStoragePath, or one of -VirtualMachinePath, -SnapshotFilePath, -SmartPagingFilePath and -Vhds.',
    );
  }
  return destination;
}

function readVhds(record: BoundRecord, given: WireValue): readonly VhdPair[] {
  const tables = Array.isArray(given) ? given : [given];
  if (tables.length === 0) {
    throw new VmStorageError('InvalidParameter', 'The Vhds parameter is empty. Name at least one virtual hard disk, or leave it out.', {
      target: 'Vhds',
    });
  }
  if (tables.length > VHDS_MAX) {
    throw new VmStorageError(
      'InvalidParameter',
      `The Vhds parameter has ${tables.length} entries; a virtual machine has at most ${VHDS_MAX} disks.`,
    );
  }
  return tables.map((table) => readPair(record, table));
}

function readPair(record: BoundRecord, table: WireValue): VhdPair {
  const values = new Map<string, WireValue>();
  if (table === null || typeof table !== 'object' || Array.isArray(table)) {
    throw new VmStorageError(
      'InvalidParameter',
      "The Vhds parameter takes hash tables with the keys 'SourceFilePath' and 'DestinationFilePath'.",
      {
        target: 'Vhds',
      },
    );
  }
  for (const [key, value] of Object.entries(table)) {
    if (key === '$t') continue;
    if (!vhdKeys.includes(key.toLowerCase())) {
      throw new VmStorageError('InvalidParameter', `Hash tables in the Vhds parameter must not contain a key '${key}'.`, { target: key });
    }
    values.set(key.toLowerCase(), value);
  }
  const path = (key: string): string => {
    const value = values.get(key.toLowerCase());
    if (typeof value !== 'string' || value === '') {
      throw new VmStorageError('InvalidParameter', `Hash tables in the Vhds parameter must contain '${key}' key`, { target: 'Vhds' });
    }
    return readPath(record, key, value);
  };
  // The destination first: it is the one the known sentence names.
  const target = path('DestinationFilePath');
  return { source: path('SourceFilePath'), target };
}

const vhdKeys = ['sourcefilepath', 'destinationfilepath'];

function readPath(record: BoundRecord, name: string, value: WireValue | undefined): string {
  if (typeof value !== 'string' || value.trim() === '') {
    throw new VmStorageError('InvalidParameter', `The ${name} parameter must be a path.`, { target: name });
  }
  return nativePath(value, record.cwd, name);
}

/**
 * Absolute, without `.`, `..`, double or trailing slashes; symbolic links stay as they are. `..` is taken out of the text, as
 * PowerShell does, before the file system is asked.
 */
export function nativePath(text: string, cwd: string, name = 'Path'): string {
  const absolute = path.posix.resolve(cwd, text);
  const refuse = (why: string): never => {
    throw new VmStorageError('InvalidParameter', `The path of ${name} ${why}: '${text}'.`, { target: text });
  };
  if (text.includes('\0')) refuse('holds a NUL character');
  if (Buffer.byteLength(absolute) > PATH_BYTES_MAX) refuse(`is longer than ${PATH_BYTES_MAX} bytes`);
  if (absolute.split('/').some((part) => Buffer.byteLength(part) > NAME_BYTES_MAX))
    refuse(`has a name longer than ${NAME_BYTES_MAX} bytes`);
  return absolute;
}

function isGiven(value: WireValue | undefined): boolean {
  return value !== undefined && value !== null;
}

function refuseOtherHosts(record: BoundRecord): void {
  const { bound, hostNames } = record;
  for (const name of ['CimSession', 'Credential']) {
    if (isGiven(bound[name])) {
      throw new VmStorageError('NotImplemented', `-${name} is not implemented: only this host can be asked. Leave it out.`, {
        target: name,
      });
    }
  }
  const named = bound['ComputerName'];
  if (!isGiven(named)) return;
  for (const computer of Array.isArray(named) ? named : [named]) {
    if (typeof computer === 'string' && hostNames.includes(computer.toLowerCase())) continue;
    throw new VmStorageError('HostNotReachable', `Cannot connect to the computer '${String(computer)}': only this host can be asked.`, {
      target: String(computer),
      category: 'ResourceUnavailable',
    });
  }
}
