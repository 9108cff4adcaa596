/**
 * The vocabulary in which cmdlets and the objects they return are written down once. From a definition come the C# class, its
 * help, its CLI command and the TypeScript type the host sees; a definition itself does no work.
 *
 * Sets are Hyper-V's: a parameter says in which sets it is, and with which flags. `everySet` is PowerShell's
 * `__AllParameterSets`.
 */

export interface EnumType<Name extends string = string> {
  readonly name: string;
  readonly namespace: string;
  /** Hyper-V's numbers: ConvertTo-Json prints them and scripts cast from them. */
  readonly values: { readonly [K in Name]: number };
}

export function defineEnum<const V extends { readonly [name: string]: number }>(
  namespace: string,
  name: string,
  values: V,
): EnumType<Extract<keyof V, string>> {
  return { namespace, name, values };
}

export type Kind =
  | 'string'
  /** A file system path: made absolute by the shim and the CLI, because the host's working folder is not the user's. */
  | 'path'
  | 'bool'
  | 'switch'
  | 'int16'
  | 'int32'
  | 'int64'
  | 'uint32'
  | 'uint64'
  | 'double'
  | 'guid'
  | 'datetime'
  | 'timespan'
  | 'version'
  | 'hashtable'
  | 'credential'
  | 'cimSession'
  | 'cimInstance'
  | 'psobject'
  | 'enum'
  | 'object';

/** A type of a parameter or property; `W` is what travels (src/protocol/messages.ts says how). */
export interface ValueType<W = unknown> {
  readonly kind: Kind;
  readonly array: boolean;
  readonly nullable: boolean;
  readonly enumType?: EnumType;
  readonly objectType?: ObjectType;
  /** A psobject takes only objects of this type name; without it, it would take whatever is piped before better parameters see it. */
  readonly typeName?: string;
  /** A file name without a folder stays one: the host knows the folder it is meant to be in. */
  readonly bareName?: true;
  /** Keys of a hashtable that hold paths; other keys travel as they are, for the host to refuse. */
  readonly pathKeys?: readonly string[];
  /** Only for the type system; never set. */
  readonly wire?: W;
}

/** What travels for an object that is given as an argument: its key properties. */
export type KeyOf<O> = O extends ObjectType<infer P, infer N, infer K> ? { $t: N } & { [X in K & keyof P]?: WireOfProperty<P[X]> } : never;

const scalar = <W>(kind: Kind): ValueType<W> => ({ kind, array: false, nullable: false });

/** The types there are. 64-bit integers travel as decimal strings, enums by name. */
export const t = {
  string: scalar<string>('string'),
  path: scalar<string>('path'),
  pathOrFileName: { ...scalar<string>('path'), bareName: true } as ValueType<string>,
  bool: scalar<boolean>('bool'),
  switch: scalar<boolean>('switch'),
  int16: scalar<number>('int16'),
  int32: scalar<number>('int32'),
  int64: scalar<string>('int64'),
  uint32: scalar<number>('uint32'),
  uint64: scalar<string>('uint64'),
  double: scalar<number>('double'),
  guid: scalar<string>('guid'),
  datetime: scalar<string>('datetime'),
  timespan: scalar<string>('timespan'),
  version: scalar<string>('version'),
  /** The user name only: the secret never leaves the shell. */
  credential: scalar<{ user: string }>('credential'),
  cimSession: scalar<string>('cimSession'),
  cimInstance: scalar<string>('cimInstance'),
  psobject: (typeName: string): ValueType<string> => ({ ...scalar('psobject'), typeName }),
  hashtable: (pathKeys: readonly string[]): ValueType<{ [key: string]: unknown }> => ({ ...scalar('hashtable'), pathKeys }),
  enum: <N extends string>(enumType: EnumType<N>): ValueType<N> => ({ ...scalar('enum'), enumType }),
  /** As a property: the whole object. */
  object: <O extends AnyObjectType>(objectType: O): ValueType<WireOf<O>> => ({ ...scalar('object'), objectType: objectType as ObjectType }),
  /** As a parameter: the key properties. */
  key: <O extends AnyObjectType>(objectType: O): ValueType<KeyOf<O>> => ({ ...scalar('object'), objectType: objectType as ObjectType }),
  array: <W>(of: ValueType<W>): ValueType<W[]> => ({ ...(of as ValueType), array: true }) as ValueType<W[]>,
  /** `Nullable<T>` for a value type, `null` on the wire for any. */
  nullable: <W>(of: ValueType<W>): ValueType<W | null> => ({ ...of, nullable: true }),
};

// ---- objects ----------------------------------------------------------------------------------------------------------------

export interface Property<W = unknown, Always extends boolean = boolean> {
  readonly type: ValueType<W>;
  readonly help: string;
  /** The value when the host does not send one; a property without it must be sent. */
  readonly fixed?: W;
  readonly always?: Always;
}

export function property<W>(type: ValueType<W>, help: string): Property<W, true> {
  return { type, help };
}

/** A property that has this value unless the host sends another: what is true of every object we can have. */
export function fixed<W>(type: ValueType<W>, value: W, help: string): Property<W, false> {
  return { type, help, fixed: value };
}

export interface Column {
  readonly property: string;
  readonly label?: string;
  /** Characters. Every column has one: a table without widths holds its rows back, to the end of a script even. Longer texts wrap. */
  readonly width: number;
  readonly align?: 'right';
  /** Shown in MiB, whole; the property itself stays in bytes. */
  readonly unit?: 'MiB';
}

export type View = { readonly table: readonly Column[] } | { readonly list: readonly string[] };

export interface ObjectType<P = { readonly [name: string]: Property }, N extends string = string, K extends string = string> {
  readonly name: N;
  readonly namespace: string;
  /** A class of cmdlets/shim/runtime/Model.cs, when Hyper-V has one that scripts name. */
  readonly base?: string;
  readonly help: string;
  readonly properties: P;
  /** What travels when the object is given as an argument. */
  readonly keys: readonly K[];
  /** ToString(): `{Name}` stands for a property. */
  readonly text: string;
  /** AliasProperty members, as Hyper-V's own types file has them. */
  readonly aliases: { readonly [alias: string]: string };
  readonly view: View;
}

// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type AnyObjectType = ObjectType<any, any, any>;

export function defineObject<
  const N extends string,
  P extends { readonly [name: string]: Property },
  const K extends Extract<keyof P, string>,
>(
  definition: Omit<ObjectType<P, N, K>, 'aliases'> & { readonly aliases?: { readonly [alias: string]: Extract<keyof P, string> } },
): ObjectType<P, N, K> {
  return { aliases: {}, ...definition };
}

type WireOfProperty<X> = X extends Property<infer W, boolean> ? W : never;
type Sent<P> = { [K in keyof P as P[K] extends Property<unknown, true> ? K : never]: WireOfProperty<P[K]> };
type Optional<P> = { [K in keyof P as P[K] extends Property<unknown, true> ? never : K]?: WireOfProperty<P[K]> };
/** The object as the host sends it. */
export type WireOf<O> = O extends ObjectType<infer P, infer N, infer _K> ? { $t: N } & Sent<P> & Optional<P> : never;

// ---- parameters -------------------------------------------------------------------------------------------------------------

export interface Placement {
  readonly mandatory?: true;
  readonly position?: number;
  readonly byValue?: true;
  readonly byName?: true;
}

export const everySet = '*';
export type Placements = { readonly [set: string]: Placement };

/** In these sets, without flags. */
export function within(...sets: readonly string[]): Placements {
  return Object.fromEntries(sets.map((set) => [set, {}]));
}

/** In these sets, with the same flags. */
export function placed(placement: Placement, ...sets: readonly string[]): Placements {
  return Object.fromEntries((sets.length === 0 ? [everySet] : sets).map((set) => [set, placement]));
}

export type Validation = 'notNull' | 'notNullOrEmpty' | { readonly set: readonly string[] } | { readonly range: readonly [number, number] };

export interface Parameter<W = unknown> {
  readonly type: ValueType<W>;
  readonly help: string;
  readonly sets: Placements;
  readonly aliases: readonly string[];
  readonly validate: readonly Validation[];
  /** What Tab offers: names of VMs from the host, paths, or nothing. */
  readonly complete: 'vmName' | 'path' | 'nothing';
  readonly wildcards: boolean;
  /** It is there, as in Hyper-V, and refused, but for the values that are `inForce`. */
  readonly notImplemented: boolean;
  /** Values that change nothing, because it is so already: they are accepted. Enums by name, numbers and times as they travel. */
  readonly inForce: readonly (string | number | boolean)[];
  /** Names of its enum that are refused, while the others are acted upon. */
  readonly notYet: readonly string[];
  /** Ours, not Hyper-V's. */
  readonly extension: boolean;
}

export interface ParameterOptions {
  /** What it is for. What is in force is added by itself. */
  readonly help: string;
  /** Default: every set, without flags. */
  readonly sets?: Placements;
  readonly aliases?: readonly string[];
  readonly validate?: readonly Validation[];
  readonly complete?: 'vmName';
  readonly wildcards?: true;
  readonly notImplemented?: true;
  /** Only these values are accepted. Implies `notImplemented`. */
  readonly inForce?: readonly (string | number | boolean)[];
  readonly notYet?: readonly string[];
  readonly extension?: true;
}

/** The one value of a property that is the same for every object: what a parameter that sets it may say. */
export function alwaysSo<P extends { readonly [name: string]: Property }>(
  type: { readonly name: string; readonly properties: P },
  name: keyof P & string,
): readonly (string | number | boolean)[] {
  const value = type.properties[name]!.fixed;
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return [value];
  throw new Error(`${type.name}.${name} is not the same for every object`);
}

function helpOf({ help, inForce }: ParameterOptions, type: ValueType): string {
  if (inForce === undefined) return help;
  if (type.kind === 'switch') return `${help} It is so in any case.`;
  const values = inForce.map((value) => (typeof value === 'boolean' ? `$${value}` : String(value))).join(' or ');
  return `${help} Only ${values} is accepted, which is in force; nothing else is implemented.`;
}

export function parameter<W>(type: ValueType<W>, options: ParameterOptions): Parameter<W> {
  return {
    type,
    help: helpOf(options, type),
    sets: options.sets ?? { [everySet]: {} },
    aliases: options.aliases ?? [],
    validate: options.validate ?? [],
    complete: options.complete ?? (type.kind === 'path' || type.kind === 'hashtable' ? 'path' : 'nothing'),
    wildcards: options.wildcards ?? false,
    notImplemented: options.notImplemented ?? options.inForce !== undefined,
    inForce: options.inForce ?? [],
    notYet: options.notYet ?? [],
    extension: options.extension ?? false,
  };
}

// ---- cmdlets ----------------------------------------------------------------------------------------------------------------

/** Approved verbs we use, and the class of System.Management.Automation that holds each. */
export const verbClasses = {
  Add: 'VerbsCommon',
  Get: 'VerbsCommon',
  Move: 'VerbsCommon',
  New: 'VerbsCommon',
  Remove: 'VerbsCommon',
  Resolve: 'VerbsDiagnostic',
  Import: 'VerbsData',
  Set: 'VerbsCommon',
  Start: 'VerbsLifecycle',
  Stop: 'VerbsLifecycle',
} as const;

export interface Example {
  readonly title: string;
  /** Runs as it stands (test/powershell runs every one). */
  readonly code: string;
  readonly remarks: string;
}

export interface Cmdlet<P = { readonly [name: string]: Parameter }> {
  readonly name: string;
  readonly verb: keyof typeof verbClasses;
  readonly noun: string;
  readonly className: string;
  readonly namespace: string;
  /** Not Hyper-V's but our own. */
  readonly extension: boolean;
  readonly defaultSet: string;
  /** All sets, the default one first. */
  readonly sets: readonly string[];
  /** Supports -WhatIf and -Confirm, and sends `stop` when interrupted; the impact is Medium, as everywhere in Hyper-V here. */
  readonly changes: boolean;
  readonly outputs: readonly AnyObjectType[];
  readonly synopsis: string;
  readonly description: string;
  readonly examples: readonly Example[];
  readonly parameters: P;
}

export interface CmdletOptions<P> {
  readonly verb: keyof typeof verbClasses;
  readonly noun: string;
  /** Where Hyper-V's spelling is irregular (NewVhd); it shows in every error id. */
  readonly className?: string;
  readonly namespace?: string;
  readonly extension?: true;
  readonly defaultSet: string;
  readonly changes?: true;
  readonly outputs: readonly AnyObjectType[];
  readonly synopsis: string;
  readonly description: string;
  readonly examples: readonly Example[];
  readonly parameters: P;
}

export function defineCmdlet<P extends { readonly [name: string]: Parameter }>(options: CmdletOptions<P>): Cmdlet<P> {
  const sets = new Set([options.defaultSet]);
  for (const one of Object.values(options.parameters)) for (const set of Object.keys(one.sets)) if (set !== everySet) sets.add(set);
  return {
    name: `${options.verb}-${options.noun}`,
    verb: options.verb,
    noun: options.noun,
    className: options.className ?? options.verb + options.noun,
    namespace: options.namespace ?? 'Microsoft.HyperV.PowerShell.Commands',
    extension: options.extension ?? false,
    defaultSet: options.defaultSet,
    sets: [...sets],
    changes: options.changes ?? false,
    outputs: options.outputs,
    synopsis: options.synopsis,
    description: options.description,
    examples: options.examples,
    parameters: options.parameters,
  };
}

/** The flags of a parameter in one set, or undefined when it is not in it. */
export function placementIn(one: Parameter, set: string): Placement | undefined {
  return one.sets[set] ?? one.sets[everySet];
}

/** What arrives in `bound` of a `process` message: only what was given. */
export type BoundOf<C> = C extends Cmdlet<infer P> ? { [K in keyof P]?: P[K] extends Parameter<infer W> ? NonNullable<W> : never } : never;
