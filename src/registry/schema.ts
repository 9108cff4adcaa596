/** What a valid `.vmcx`, `registry.json` and `settings.json` is, and the sentence that names the rule a file breaks. */
import { Type, type Static, type TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { isAbsolute } from 'node:path';
import type { VmConfiguration } from '../model/vm.js';

const guid = Type.String({ pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' });
const path = Type.String({ minLength: 2, maxLength: 4096, pattern: '^/' });
const strict = { additionalProperties: false }; // a field we do not know would be lost by the next write

/** A day. */
export const START_DELAY_MOST_SECONDS = 86_400;

const hardDisk = Type.Object(
  {
    id: guid,
    controllerType: Type.Union([Type.Literal('IDE'), Type.Literal('SCSI')]),
    controllerNumber: Type.Integer({ minimum: 0, maximum: 3 }),
    controllerLocation: Type.Integer({ minimum: 0, maximum: 63 }),
    path,
    format: Type.Union([Type.Literal('raw'), Type.Literal('vhdx')]),
    passThrough: Type.Boolean(),
  },
  strict,
);

const vmConfiguration = Type.Object(
  {
    schema: Type.Literal(1),
    id: guid,
    name: Type.String({ minLength: 1, maxLength: 100 }),
    generation: Type.Union([Type.Literal(1), Type.Literal(2)]),
    memoryStartupBytes: Type.Integer({ minimum: 32 * 2 ** 20, maximum: 2 ** 44 }),
    processorCount: Type.Integer({ minimum: 1, maximum: 240 }),
    notes: Type.String({ maxLength: 1_000_000 }),
    path,
    snapshotFileLocation: path,
    smartPagingFilePath: path,
    disks: Type.Array(hardDisk, { maxItems: 68 }),
    directBoot: Type.Union([
      Type.Null(),
      Type.Object({ kernel: path, initrd: Type.Union([Type.Null(), path]), arguments: Type.String({ maxLength: 2047 }) }, strict),
    ]),
    storageGeneration: Type.Optional(Type.Integer({ minimum: 0, maximum: 2 ** 31 })),
    createdAt: Type.String({ minLength: 20, maxLength: 40 }),
    automaticStartAction: Type.Union([Type.Literal('Nothing'), Type.Literal('StartIfRunning'), Type.Literal('Start')]),
    automaticStartDelaySeconds: Type.Optional(Type.Integer({ minimum: 0, maximum: START_DELAY_MOST_SECONDS })),
    automaticStopAction: Type.Union([Type.Literal('TurnOff'), Type.Literal('Save'), Type.Literal('ShutDown')]),
  },
  strict,
);

const decimal = Type.String({ pattern: '^[0-9]{1,20}$' });
const userNumber = Type.Integer({ minimum: 0, maximum: 2 ** 32 - 1 });
/** A file that this host has written, so that no other is taken for it. */
const stamp = Type.Object({ file: path, device: decimal, inode: decimal, bornNs: decimal, uid: userNumber, mode: Type.Integer() }, strict);
export type Stamp = Static<typeof stamp>;

const registeredMachine = Type.Object(
  {
    file: path,
    /** The user who made it; null: nobody but root and the host's own user. */
    owner: Type.Union([userNumber, Type.Null()]),
    /** Configuration files that may be believed: of the present place, of the one before, of one that a move has prepared. */
    written: Type.Array(stamp, { maxItems: 16 }),
  },
  strict,
);
export type RegisteredMachine = Static<typeof registeredMachine>;

const registryFile = Type.Object({ schema: Type.Literal(2), machines: Type.Record(Type.String(), registeredMachine) }, strict);
export type RegistryFile = Static<typeof registryFile>;
/** Of 0.1, which knew of no owners and kept no stamps. */
const firstRegistryFile = Type.Object({ schema: Type.Literal(1), machines: Type.Record(Type.String(), path) }, strict);

export const MAXIMUM_STORAGE_MIGRATIONS_MOST = 1024;

const settingsFile = Type.Object(
  {
    schema: Type.Literal(1),
    maximumStorageMigrations: Type.Integer({ minimum: 1, maximum: MAXIMUM_STORAGE_MIGRATIONS_MOST }),
    virtualHardDiskPath: path,
    virtualMachinePath: path,
  },
  strict,
);
export type SettingsFile = Static<typeof settingsFile>;

/** A file's text as a checked value, or the rule it breaks. */
export type Parsed<T> = { readonly value: T; readonly rule?: undefined } | { readonly value?: undefined; readonly rule: string };

const checkVm = Compile(vmConfiguration);
const checkRegistry = Compile(registryFile);
const checkFirstRegistry = Compile(firstRegistryFile);
const checkSettings = Compile(settingsFile);

export function parseVmConfiguration(text: string): Parsed<VmConfiguration> {
  const parsed = parse<VmConfiguration>(text, checkVm);
  if (parsed.rule !== undefined) return parsed;
  const rule = brokenRule(parsed.value);
  return rule === null ? parsed : { rule };
}

/** `first`: the file is of 0.1, so nothing in it says which configurations may be believed. */
export function parseRegistry(text: string): Parsed<RegistryFile & { readonly first?: true }> {
  const first = parse<Static<typeof firstRegistryFile>>(text, checkFirstRegistry);
  if (first.value === undefined) return schemaOf(text) === 1 ? first : parse<RegistryFile>(text, checkRegistry, 2);
  const machines = Object.entries(first.value.machines).map(([id, file]): [string, RegisteredMachine] => [
    id,
    { file, owner: null, written: [] },
  ]);
  return { value: { schema: 2, machines: Object.fromEntries(machines), first: true } };
}
export const parseSettings = (text: string): Parsed<SettingsFile> => parse<SettingsFile>(text, checkSettings);

/** The rules a schema cannot say. */
export function brokenRule(vm: VmConfiguration): string | null {
  const places = new Set<string>();
  for (const disk of vm.disks) {
    const place = `${disk.controllerType} ${disk.controllerNumber}:${disk.controllerLocation}`;
    if (places.has(place)) return `two disks are at ${place}`;
    places.add(place);
    if (disk.controllerType === 'IDE' && (disk.controllerNumber > 1 || disk.controllerLocation > 1)) return `there is no ${place}`;
    if (disk.controllerType === 'IDE' && vm.generation === 2) return `a generation 2 machine has no IDE controller (${place})`;
    if (disk.passThrough && disk.format !== 'raw') return `the pass-through disk at ${place} is not raw`;
  }
  if (new Set(vm.disks.map((disk) => disk.id)).size !== vm.disks.length) return 'two disks have the same id';
  if (new Set(vm.disks.map((disk) => disk.path)).size !== vm.disks.length) return 'two disks have the same path';
  if (
    [vm.path, vm.snapshotFileLocation, vm.smartPagingFilePath, ...vm.disks.map((disk) => disk.path)].some(
      (path) => !isAbsolute(path) || path.includes('\0'),
    )
  ) {
    return 'a path is not absolute';
  }
  return null;
}

interface Checker {
  Check(value: unknown): boolean;
  Errors(value: unknown): { instancePath: string; message: string }[];
}

function parse<T>(text: string, checker: Checker & { Schema?: () => TSchema }, known = 1): Parsed<T> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { rule: `it is not JSON (${error instanceof Error ? error.message : String(error)})` };
  }
  const schema = schemaIn(value);
  if (typeof schema === 'number' && schema > known)
    return { rule: `its schema is ${schema}, made by a newer version; this one knows ${known}` };
  if (checker.Check(value)) return { value: value as T };
  const first = checker.Errors(value)[0];
  return {
    rule: first ? `${first.instancePath === '' ? 'the document' : first.instancePath} ${first.message}` : 'it does not match its schema',
  };
}

const schemaIn = (value: unknown): unknown => (typeof value === 'object' && value !== null && 'schema' in value ? value.schema : undefined);

function schemaOf(text: string): unknown {
  try {
    return schemaIn(JSON.parse(text));
  } catch {
    return undefined; // whoever reads it says so
  }
}
