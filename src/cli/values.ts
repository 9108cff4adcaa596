/** Text of the command line to the value that travels, by the definition's type. PowerShell's spellings are understood: 40GB, $true, @{a=b}. */
import { isAbsolute, resolve } from 'node:path';
import type { Parameter, ValueType } from '../../cmdlets/define.js';
import { VmStorageError } from '../model/errors.js';
import type { WireValue } from '../protocol/messages.js';

export function refuse(message: string, target?: string): never {
  throw new VmStorageError('InvalidParameter', message, target === undefined ? {} : { target });
}

const multipliers: { readonly [suffix: string]: bigint } = {
  '': 1n,
  kb: 1n << 10n,
  mb: 1n << 20n,
  gb: 1n << 30n,
  tb: 1n << 40n,
  pb: 1n << 50n,
};
const ranges: { readonly [kind: string]: readonly [bigint, bigint] } = {
  int16: [-(1n << 15n), (1n << 15n) - 1n],
  int32: [-(1n << 31n), (1n << 31n) - 1n],
  int64: [-(1n << 63n), (1n << 63n) - 1n],
  uint32: [0n, (1n << 32n) - 1n],
  uint64: [0n, (1n << 64n) - 1n],
};

/** `40GB`, `1.5TB`, `0x1000`, `-3`; exact, and undefined for anything else. */
export function parseInteger(text: string): bigint | undefined {
  const hex = /^0x([0-9a-f]{1,16})$/i.exec(text);
  if (hex) return BigInt(text);
  const match = /^([+-]?)(\d{1,30})(?:\.(\d{1,18}))?(kb|mb|gb|tb|pb)?$/i.exec(text);
  if (!match) return undefined;
  const [, sign, whole, fraction = '', suffix = ''] = match;
  const scale = 10n ** BigInt(fraction.length);
  const scaled = BigInt(whole + fraction) * multipliers[suffix.toLowerCase()]!;
  if (scaled % scale !== 0n) return undefined;
  const value = scaled / scale;
  return sign === '-' ? -value : value;
}

/** The rule of the module's PathArgument.cs: drive letters and two leading slashes are for the host to map; the rest becomes absolute. */
export function absolutePath(text: string, cwd: string): string {
  if (/^[A-Za-z]:([\\/]|$)/.test(text) || /^[\\/]{2}/.test(text)) return text;
  if (text === '~' || text.startsWith('~/')) return (process.env['HOME'] ?? '~') + text.slice(1);
  if (isAbsolute(text)) return text;
  return resolve(cwd, text) + (text.length > 1 && text.endsWith('/') ? '/' : '');
}

/** The rule of the module's PathArgument.cs: no folder and no drive in it. */
function isFileName(text: string): boolean {
  return !text.startsWith('~') && text !== '.' && text !== '..' && !/[\\/:]/.test(text);
}

function parseHashtable(text: string, type: ValueType, parameter: string, cwd: string): { [key: string]: WireValue }[] {
  let tables: { [key: string]: unknown }[];
  const trimmed = text.trim();
  if (/^[[{]/.test(trimmed)) {
    let json: unknown;
    try {
      json = JSON.parse(trimmed);
    } catch {
      return refuse(`-${parameter}: this is not JSON: ${text}`, text);
    }
    tables = (Array.isArray(json) ? json : [json]) as { [key: string]: unknown }[];
  } else {
    const inner = /^@\{(.*)\}$/s.exec(trimmed)?.[1] ?? trimmed;
    const table: { [key: string]: unknown } = {};
    for (const pair of inner.split(';')) {
      if (pair.trim() === '') continue;
      const at = pair.indexOf('=');
      if (at < 0) return refuse(`-${parameter} takes JSON, or Key=value;Key=value; '${pair}' has no '='.`, text);
      const value = pair.slice(at + 1).trim();
      table[pair.slice(0, at).trim()] = /^(['"]).*\1$/s.test(value) ? value.slice(1, -1) : value;
    }
    tables = [table];
  }
  return tables.map((table) => {
    if (table === null || typeof table !== 'object' || Array.isArray(table))
      return refuse(`-${parameter}: each entry must be an object with keys.`, text);
    const result: { [key: string]: WireValue } = {};
    for (const [key, value] of Object.entries(table)) {
      const pathKey = type.pathKeys?.find((one) => one.toLowerCase() === key.toLowerCase());
      result[pathKey ?? key] =
        pathKey !== undefined && typeof value === 'string' && value.trim() !== '' ? absolutePath(value, cwd) : (value as WireValue);
    }
    return result;
  });
}

function parseOne(text: string, type: ValueType, parameter: string, cwd: string): WireValue {
  switch (type.kind) {
    case 'path':
      if (text.trim() === '') return refuse(`-${parameter} must be a path; it is blank.`, text);
      return type.bareName && isFileName(text) ? text : absolutePath(text, cwd);
    case 'bool':
    case 'switch': {
      const value =
        /^\$?(true|false)$/i.exec(text)?.[1]?.toLowerCase() ?? ({ '1': 'true', '0': 'false' } as { [text: string]: string })[text];
      return value === undefined ? refuse(`-${parameter} takes true or false, not '${text}'.`, text) : value === 'true';
    }
    case 'int16':
    case 'int32':
    case 'int64':
    case 'uint32':
    case 'uint64': {
      const value = parseInteger(text);
      const [least, most] = ranges[type.kind]!;
      if (value === undefined) return refuse(`-${parameter} takes a whole number such as 512MB, not '${text}'.`, text);
      if (value < least || value > most) return refuse(`-${parameter} must be between ${least} and ${most}; ${text} is not.`, text);
      return type.kind === 'int64' || type.kind === 'uint64' ? value.toString() : Number(value);
    }
    case 'guid':
      return /^\{?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\}?$/i.test(text)
        ? text.replace(/[{}]/g, '').toLowerCase()
        : refuse(`-${parameter} takes an identifier like 00000000-0000-0000-0000-000000000000, not '${text}'.`, text);
    case 'timespan':
      return /^-?(\d+\.)?\d{1,2}:\d{2}(:\d{2}(\.\d{1,7})?)?$/.test(text)
        ? text
        : refuse(`-${parameter} takes a time like 01:30:00, not '${text}'.`, text);
    case 'enum': {
      const names = Object.keys(type.enumType!.values);
      const name =
        names.find((one) => one.toLowerCase() === text.toLowerCase()) ?? names.find((one) => String(type.enumType!.values[one]) === text);
      return name ?? refuse(`-${parameter} takes one of ${names.join(', ')}, not '${text}'.`, text);
    }
    case 'credential':
      return { user: text };
    default:
      return text;
  }
}

function validate(text: string, parameter: string, definition: Parameter): void {
  for (const rule of definition.validate) {
    if (rule === 'notNullOrEmpty' && text === '') refuse(`-${parameter} must not be empty.`);
    if (typeof rule !== 'object') continue;
    if ('set' in rule) {
      const value = parseInteger(text);
      const fits = rule.set.some((one) => one.toLowerCase() === text.toLowerCase() || (value !== undefined && parseInteger(one) === value));
      if (!fits) refuse(`-${parameter} takes one of ${rule.set.join(', ')}, not '${text}'.`, text);
    } else {
      const value = parseInteger(text);
      if (value === undefined || value < BigInt(rule.range[0]) || value > BigInt(rule.range[1])) {
        refuse(`-${parameter} must be between ${rule.range[0]} and ${rule.range[1]}; ${text} is not.`, text);
      }
    }
  }
}

/** One or several texts given for a parameter. Names may be given as a list with commas; a path is one path, commas and all. */
export function parseValue(texts: readonly string[], parameter: string, definition: Parameter, cwd: string): WireValue {
  const { type } = definition;
  if (type.kind === 'object') {
    refuse(`-${parameter} takes an object from the pipeline, which only PowerShell has. Name the object instead.`);
  }
  if (type.kind === 'hashtable') {
    const tables = texts.flatMap((text) => parseHashtable(text, type, parameter, cwd));
    return tables.length === 0 ? refuse(`-${parameter} must not be empty.`) : tables;
  }
  if (!type.array) {
    if (texts.length > 1) refuse(`-${parameter} was given ${texts.length} times; it takes one value.`);
    validate(texts[0]!, parameter, definition);
    return parseOne(texts[0]!, type, parameter, cwd);
  }
  const parts = type.kind === 'path' ? texts : texts.flatMap((text) => text.split(','));
  for (const part of parts) validate(part, parameter, definition);
  return parts.map((part) => parseOne(part, type, parameter, cwd));
}
