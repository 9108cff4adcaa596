/** Names and literals of C#: the CLR type of a value type, and a constant of it. */
import type { AnyObjectType, EnumType, Kind, ValueType } from '../define.js';
import { csharpText } from './quote.js';

const valueTypes: { readonly [K in Kind]?: string } = {
  bool: 'bool',
  int16: 'short',
  int32: 'int',
  int64: 'long',
  uint32: 'uint',
  uint64: 'ulong',
  double: 'double',
  guid: 'global::System.Guid',
  datetime: 'global::System.DateTime',
  timespan: 'global::System.TimeSpan',
  switch: 'global::System.Management.Automation.SwitchParameter',
};

const classes: { readonly [K in Kind]?: string } = {
  string: 'string',
  path: 'string',
  version: 'global::System.Version',
  hashtable: 'global::System.Collections.Hashtable',
  credential: 'global::System.Management.Automation.PSCredential',
  cimSession: 'global::Microsoft.Management.Infrastructure.CimSession',
  cimInstance: 'global::Microsoft.Management.Infrastructure.CimInstance',
  psobject: 'global::System.Management.Automation.PSObject',
};

export function fullName(type: EnumType | AnyObjectType): string {
  return `global::${type.namespace}.${type.name}`;
}

/** The element type, without array and nullability. */
export function elementType(type: ValueType): string {
  if (type.enumType) return fullName(type.enumType);
  if (type.objectType) return fullName(type.objectType);
  const name = valueTypes[type.kind] ?? classes[type.kind];
  if (name === undefined) throw new Error(`no CLR type for ${type.kind}`);
  return name;
}

export function isValueType(type: ValueType): boolean {
  return type.enumType !== undefined || valueTypes[type.kind] !== undefined;
}

/** As a parameter: anything that may stay unbound and is not a plain value type is nullable. */
export function parameterType(type: ValueType): string {
  if (type.array) return `${elementType(type)}[]?`;
  return isValueType(type) && !type.nullable ? elementType(type) : `${elementType(type)}?`;
}

/** As a property: what the definition says. */
export function propertyType(type: ValueType): string {
  if (type.array) return `${elementType(type)}[]`;
  return type.nullable ? `${elementType(type)}?` : elementType(type);
}

/** A constant of a scalar type. */
export function literal(type: ValueType, value: unknown): string {
  if (value === null) return 'null';
  switch (type.kind) {
    case 'string':
    case 'path':
      return csharpText(String(value));
    case 'bool':
    case 'int16':
    case 'int32':
      return String(value);
    case 'int64':
      return `${String(value)}L`;
    case 'uint32':
      return `${String(value)}u`;
    case 'uint64':
      return `${String(value)}UL`;
    case 'guid':
      return `new global::System.Guid(${csharpText(String(value))})`;
    case 'timespan':
      return `global::System.TimeSpan.ParseExact(${csharpText(String(value))}, "c", null)`;
    case 'enum':
      return `${fullName(type.enumType!)}.${String(value)}`;
    default:
      throw new Error(`no literal of ${type.kind}`);
  }
}
