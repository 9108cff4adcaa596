/**
 * The three spellings of a parameter that takes tables: PowerShell's (`@{Key='value'}`, several with commas or in `@(...)`), JSON, and
 * `Key=value;Key=value`, where a value without quotes reaches to the next semicolon.
 */
import type { ValueType } from '../../cmdlets/define.js';
import type { WireValue } from '../protocol/messages.js';
import { parseLiteral, type Literal, type LiteralTable } from './literal/parse.js';
import { LiteralError } from './literal/tokens.js';
import { absolutePath } from './path-argument.js';
import { refuse } from './refuse.js';

export function parseTables(text: string, type: ValueType, parameter: string, cwd: string): { [key: string]: WireValue }[] {
  try {
    const trimmed = text.trim();
    const found = /^[[{]/.test(trimmed) ? fromJson(trimmed) : /^[@(]/.test(trimmed) ? fromLiteral(trimmed) : [fromPairs(trimmed)];
    return found.map((table) => toWire(table, type, cwd));
  } catch (error) {
    if (!(error instanceof LiteralError)) throw error;
    const where = error.at > 0 ? `, at character ${error.at + 1}` : '';
    return refuse(
      `-${parameter} cannot be read: ${error.message}${where}. It takes @{Key='value'; Key='value'}, JSON, or Key=value;Key=value; given was: ${text}`,
      text,
    );
  }
}

function fromLiteral(text: string): readonly LiteralTable[] {
  const parsed = parseLiteral(text);
  return (Array.isArray(parsed) ? (parsed as readonly Literal[]) : [parsed]).map((table) => {
    if (table instanceof Map) return table as LiteralTable;
    throw new LiteralError('each entry must be a table, @{...}', 0);
  });
}

function fromJson(text: string): readonly LiteralTable[] {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new LiteralError('this is not JSON', 0);
  }
  const objects = (Array.isArray(json) ? json : [json]).map((each: unknown) => {
    if (each !== null && typeof each === 'object' && !Array.isArray(each)) return Object.entries(each);
    throw new LiteralError('each entry must be an object with keys', 0);
  });
  // JSON.parse keeps the last of two equal keys and says nothing. Strings of a text that it took are whole, so keys can be counted.
  const written = [...text.matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?/g)].filter((match) => match[1] !== undefined).length;
  const read = countKeys(json);
  if (written !== read) throw new LiteralError('a key is given twice', 0);
  return objects.map((entries) => once(entries as [string, Literal][]));
}

function countKeys(json: unknown): number {
  if (json === null || typeof json !== 'object') return 0;
  const inside = Object.values(json).reduce<number>((sum, value) => sum + countKeys(value), 0);
  return inside + (Array.isArray(json) ? 0 : Object.keys(json).length);
}

function fromPairs(text: string): LiteralTable {
  const pairs: [string, Literal][] = [];
  for (let rest = text; rest !== '';) {
    const match = /^\s*([\p{L}_][\p{L}\p{Nd}_]*)\s*=\s*(['"\u2018-\u201e].*?['"\u2018-\u201e]\s*(?=;|$)|[^;]*)(?:;\s*|$)/su.exec(rest);
    if (!match) throw new LiteralError(`'${rest}' does not begin with a key and '='`, 0);
    const [whole, key, value] = match;
    pairs.push([key!, /^['"\u2018-\u201e]/.test(value!) ? parseLiteral(value!) : value!.trim()]);
    rest = rest.slice(whole.length);
  }
  return once(pairs);
}

function once(pairs: readonly [string, Literal][]): LiteralTable {
  const keys = new Set<string>();
  for (const [key] of pairs) {
    if (keys.has(key.toLowerCase())) throw new LiteralError(`the key '${key}' is given twice`, 0);
    keys.add(key.toLowerCase());
  }
  return new Map(pairs);
}

/** Keys that hold paths get the definition's spelling and an absolute path; what other keys are is the host's to refuse. */
function toWire(table: LiteralTable, type: ValueType, cwd: string): { [key: string]: WireValue } {
  return Object.fromEntries(
    [...table].map(([key, value]) => {
      if (value !== null && typeof value === 'object') throw new LiteralError(`the value of '${key}' must be one value`, 0);
      const pathKey = type.pathKeys?.find((one) => one.toLowerCase() === key.toLowerCase());
      const text = typeof value === 'bigint' || typeof value === 'number' ? String(value) : value;
      return [pathKey ?? key, pathKey !== undefined && typeof text === 'string' && text.trim() !== '' ? absolutePath(text, cwd) : text];
    }),
  );
}
