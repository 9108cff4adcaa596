/** The class of an output type, made from what the host sends or from a deserialized bag; and the converter that makes the latter. */
import type { AnyObjectType, EnumType, Property, ValueType } from '../define.js';
import { elementType, fullName, isValueType, literal, propertyType } from './csharp-types.js';
import { csharpText } from './quote.js';

const readers: { readonly [kind: string]: string } = {
  string: 'String',
  bool: 'Bool',
  int32: 'Int32',
  int64: 'Int64',
  uint32: 'UInt32',
  uint64: 'UInt64',
  double: 'Double',
  guid: 'Guid',
  timespan: 'TimeSpan',
  datetime: 'DateTime',
};

function reader(type: ValueType): string {
  if (type.kind === 'enum') return `WireReader.Enum<${elementType(type)}>`;
  const name = readers[type.kind];
  if (name === undefined) throw new Error(`no reader of ${type.kind}`);
  return `WireReader.${name}`;
}

function fromWire(name: string, { type, fixed }: Property): string {
  const key = csharpText(name);
  if (type.array) {
    const read = type.objectType
      ? `static e => new ${elementType(type)}(e)`
      : type.enumType
        ? `WireReader.Enum<${elementType(type)}>`
        : 'WireReader.Text';
    return `WireReader.Array(v, ${key}, ${read})`;
  }
  if (type.nullable) {
    if (!isValueType(type)) return `WireReader.StringOrNull(v, ${key})`;
    return `WireReader.OrNull<${elementType(type)}>(v, ${key}, ${literal(type, fixed ?? null)}, static (o, n) => ${reader(type)}(o, n))`;
  }
  return fixed === undefined ? `${reader(type)}(v, ${key})` : `${reader(type)}(v, ${key}, ${literal(type, fixed)})`;
}

function fromBag(name: string, { type }: Property): string {
  const key = csharpText(name);
  if (type.array)
    return type.objectType
      ? `Bag.Objects<${elementType(type)}>(p, ${key})`
      : type.enumType
        ? `Bag.Enums<${elementType(type)}>(p, ${key})`
        : `Bag.Texts(p, ${key})`;
  if (type.enumType) return `Bag.${type.nullable ? 'NullableEnum' : 'Enum'}<${elementType(type)}>(p, ${key})`;
  if (!isValueType(type)) return type.nullable ? `Bag.Value<string>(p, ${key})` : `Bag.Text(p, ${key})`;
  return type.nullable ? `Bag.Value<${elementType(type)}?>(p, ${key})` : `Bag.Value<${elementType(type)}>(p, ${key})`;
}

function writeKey(name: string, { type }: Property): string {
  const key = csharpText(name);
  if (type.kind === 'enum') return `json.WriteString(${key}, ${name}.ToString());`;
  if (type.kind === 'int32') return `json.WriteNumber(${key}, ${name});`;
  return `json.WriteString(${key}, ${name});`;
}

function textOf(type: AnyObjectType): string {
  const template = type.text.replace(/\{(\w+)\}/g, (_, name: string) => {
    const property = (type.properties as { [name: string]: Property })[name];
    if (property === undefined) throw new Error(`${type.name}: text names ${name}`);
    return property.type.kind === 'guid' ? `{${name}.ToString("D").ToUpperInvariant()}` : `{${name}}`;
  });
  return `$"${template}"`;
}

export function renderObject(type: AnyObjectType): string {
  const properties = Object.entries(type.properties as { [name: string]: Property });
  const bases = [type.base, 'IWireKey'].filter((base) => base !== undefined).join(', ');
  return [
    '// Generated from cmdlets/types; do not edit.',
    '#nullable enable',
    'using System.Management.Automation;',
    'using System.Text.Json;',
    'using VMStorage.PowerShell;',
    '',
    `namespace ${type.namespace};`,
    '',
    `/// <summary>${type.help}</summary>`,
    `[global::System.ComponentModel.TypeConverter(typeof(${type.name}Converter))]`,
    `public sealed class ${type.name} : ${bases}`,
    '{',
    `    internal ${type.name}(JsonElement v)`,
    '    {',
    ...properties.map(([name, property]) => `        ${name} = ${fromWire(name, property)};`),
    '    }',
    '',
    `    internal ${type.name}(PSObject p)`,
    '    {',
    ...properties.map(([name, property]) => `        ${name} = ${fromBag(name, property)};`),
    '    }',
    '',
    ...properties.flatMap(([name, property]) => [
      `    /// <summary>${property.help}</summary>`,
      `    public ${propertyType(property.type)} ${name} { get; }`,
    ]),
    '',
    `    public override string ToString() => ${textOf(type)};`,
    '',
    '    void IWireKey.WriteKey(Utf8JsonWriter json)',
    '    {',
    '        json.WriteStartObject();',
    `        json.WriteString("$t", ${csharpText(type.name)});`,
    ...type.keys.map((name: string) => `        ${writeKey(name, (type.properties as { [name: string]: Property })[name]!)}`),
    '        json.WriteEndObject();',
    '    }',
    '}',
    '',
    `/// <summary>Makes a deserialized ${type.name} a real one again.</summary>`,
    `public sealed class ${type.name}Converter : RehydratingConverter<${type.name}>`,
    '{',
    `    private protected override ${type.name} Make(PSObject bag) => new(bag);`,
    '}',
    '',
  ].join('\n');
}

export function renderEnums(enums: readonly EnumType[]): string {
  const lines = ['// Generated from cmdlets/types; do not edit.'];
  for (const one of enums) {
    const members = Object.entries(one.values).map(([name, value]) => `${name} = ${value}`);
    lines.push(`namespace ${one.namespace} { public enum ${one.name} { ${members.join(', ')} } }`);
  }
  return `${lines.join('\n')}\n`;
}

/** What the runtime must know of the definitions: versions, their hash, and the class of each `$t`. */
export function renderDefinitions(
  types: readonly AnyObjectType[],
  facts: { protocolVersion: number; moduleVersion: string; hash: string },
): string {
  return [
    '// Generated from cmdlets; do not edit.',
    '#nullable enable',
    'using System.Text.Json;',
    '',
    'namespace VMStorage.PowerShell;',
    '',
    'internal static class Definitions',
    '{',
    `    public const int ProtocolVersion = ${facts.protocolVersion};`,
    `    public const string ModuleVersion = ${csharpText(facts.moduleVersion)};`,
    `    public const string Hash = ${csharpText(facts.hash)};`,
    '',
    '    public static object Read(JsonElement v) => v.GetProperty("$t").GetString() switch',
    '    {',
    ...types.map((type) => `        ${csharpText(type.name)} => new ${fullName(type)}(v),`),
    '        var other => throw new JsonException($"The host sent an object of the unknown type \'{other}\'."),',
    '    };',
    '}',
    '',
  ].join('\n');
}
