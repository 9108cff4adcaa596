/**
 * Text of the command line to the value that travels, by the definition's type, in PowerShell's spelling: 40GB, $true, @('a', 'b'),
 * @{a='b'}. What cannot be read is refused before anything happens.
 */
import type { Parameter, ValueType } from '../../cmdlets/define.js';
import { nameOrList } from '../protocol/name-or-list.js';
import type { WireValue } from '../protocol/messages.js';
import { parseInteger } from './literal/numbers.js';
import { parseTexts } from './literal/parse.js';
import { LiteralError } from './literal/tokens.js';
import { absolutePath, isFileName } from './path-argument.js';
import { refuse } from './refuse.js';
import { parseTables } from './tables.js';

const ranges: { readonly [kind: string]: readonly [bigint, bigint] } = {
  int16: [-(1n << 15n), (1n << 15n) - 1n],
  int32: [-(1n << 31n), (1n << 31n) - 1n],
  int64: [-(1n << 63n), (1n << 63n) - 1n],
  uint32: [0n, (1n << 32n) - 1n],
  uint64: [0n, (1n << 64n) - 1n],
};

export function parseSwitch(text: string, parameter: string): boolean {
  const value = /^\$?(true|false)$/i.exec(text)?.[1]?.toLowerCase() ?? ({ '1': 'true', '0': 'false' } as { [text: string]: string })[text];
  return value === undefined ? refuse(`-${parameter} takes $true or $false, not '${text}'.`, text) : value === 'true';
}

function parseOne(text: string, type: ValueType, parameter: string, cwd: string): WireValue {
  switch (type.kind) {
    case 'path':
      if (text.trim() === '') return refuse(`-${parameter} must be a path; it is blank.`, text);
      return type.bareName && isFileName(text) ? text : absolutePath(text, cwd);
    case 'bool':
    case 'switch':
      return parseSwitch(text, parameter);
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

/** One or several texts given for a parameter. */
export function parseValue(texts: readonly string[], parameter: string, definition: Parameter, cwd: string): WireValue {
  const { type } = definition;
  if (type.kind === 'object') {
    refuse(`-${parameter} takes an object from the pipeline, which only PowerShell has. Name the object instead.`);
  }
  if (type.kind === 'hashtable') {
    const tables = texts.flatMap((text) => parseTables(text, type, parameter, cwd));
    return tables.length === 0 ? refuse(`-${parameter} must not be empty.`) : tables;
  }
  const one = (text: string): WireValue => {
    validate(text, parameter, definition);
    return parseOne(text, type, parameter, cwd);
  };
  if (type.array) return texts.flatMap((text) => parseList(text, parameter, definition, one));
  if (texts.length > 1) refuse(`-${parameter} was given ${texts.length} times; it takes one value.`);
  return one(texts[0]!);
}

/** A path is one path, commas and all, and a machine may be called "a,b": the host knows whether one is. */
function parseList(text: string, parameter: string, definition: Parameter, one: (text: string) => WireValue): WireValue[] {
  const isQuoted = /^\s*(@\(|['"\u2018-\u201e])/.test(text);
  if (!isQuoted && (definition.type.kind === 'path' || !text.includes(','))) return [one(text)];
  let parts: readonly string[];
  try {
    parts = parseTexts(text);
  } catch (error) {
    if (!(error instanceof LiteralError)) throw error;
    if (!isQuoted) parts = text.split(',').map((part) => part.trim());
    else if (definition.complete === 'vmName') return [one(text)];
    else refuse(`-${parameter} cannot be read: ${error.message}, at character ${error.at + 1} of ${text}`, text);
  }
  if (definition.complete !== 'vmName') return parts.map(one);
  return parts.includes('') ? [one(text)] : [nameOrList(text, parts)];
}
