/** Output objects as tables and lists for people: the same views as in PowerShell. */
import type { Column, ObjectType, Property } from '../../cmdlets/define.js';
import { objectTypes, type ObjectTypeName } from '../../cmdlets/types/index.js';
import { visibleJson, visibleLine } from '../model/visible.js';
import type { WireObject, WireValue } from '../protocol/messages.js';

export type AnyType = ObjectType<{ readonly [name: string]: Property }>;

export function typeOf(object: WireObject): AnyType | undefined {
  return Object.hasOwn(objectTypes, object.$t) ? (objectTypes[object.$t as ObjectTypeName] as unknown as AnyType) : undefined;
}

/** A property by its name or alias; what the host leaves out has the value its definition fixes. */
function valueOf(object: WireObject, name: string, type: AnyType): WireValue {
  const real = type.aliases[name] ?? name;
  const value = object[real];
  return value === undefined ? ((type.properties[real]?.fixed ?? null) as WireValue) : value;
}

function text(value: WireValue): string {
  if (value === null) return '';
  if (Array.isArray(value)) return `{${value.map(text).join(', ')}}`;
  if (typeof value === 'object') return objectText(value);
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  return visibleLine(String(value));
}

/** As the object's ToString() in PowerShell. */
function objectText(object: { readonly [name: string]: WireValue }): string {
  const type = typeof object['$t'] === 'string' ? typeOf(object as WireObject) : undefined;
  if (type) return type.text.replaceAll(/\{(\w+)\}/g, (_, name: string) => text(valueOf(object as WireObject, name, type)));
  return typeof object['Name'] === 'string' ? visibleLine(object['Name']) : visibleJson(JSON.stringify(object));
}

export function cellText(object: WireObject, column: Column, type: AnyType): string {
  const value = valueOf(object, column.property, type);
  if (column.unit === 'MiB' && (typeof value === 'string' || typeof value === 'number')) return String(BigInt(value) >> 20n);
  return text(value);
}

function table(objects: readonly WireObject[], columns: readonly Column[], type: AnyType): string {
  const rows = [
    columns.map((column) => column.label ?? column.property),
    columns.map((column) => '-'.repeat((column.label ?? column.property).length)),
    ...objects.map((object) => columns.map((column) => cellText(object, column, type))),
  ];
  const widths = columns.map((_, at) => Math.max(...rows.map((row) => row[at]!.length)));
  return rows
    .map((row) =>
      row
        .map((one, at) => one.padEnd(widths[at]!))
        .join(' ')
        .trimEnd(),
    )
    .join('\n');
}

function list(object: WireObject, names: readonly string[], type: AnyType): string {
  const width = Math.max(...names.map((name) => name.length));
  return names.map((name) => `${name.padEnd(width)} : ${text(valueOf(object, name, type))}`.trimEnd()).join('\n');
}

/** Objects in order; neighbours of one type share a table. */
export function renderObjects(objects: readonly WireObject[]): string {
  const blocks: string[] = [];
  for (let at = 0; at < objects.length;) {
    const name = objects[at]!.$t;
    let end = at + 1;
    while (end < objects.length && objects[end]!.$t === name) end++;
    const group = objects.slice(at, end);
    const type = typeOf(group[0]!);
    if (type === undefined) blocks.push(...group.map((object) => visibleJson(JSON.stringify(object, null, 2))));
    else if ('table' in type.view) blocks.push(table(group, type.view.table, type));
    else {
      const { list: names } = type.view;
      blocks.push(...group.map((object) => list(object, names, type)));
    }
    at = end;
  }
  return blocks.join('\n\n');
}
