/**
 * Binds the words of a command line to a cmdlet the way PowerShell does: single-dash names in any case, aliases, unambiguous
 * beginnings, `-Name:value`, switches, positions; then the one parameter set that has all that was given.
 */
import { placementIn, type Cmdlet, type Parameter } from '../../cmdlets/define.js';
import type { WireValue } from '../protocol/messages.js';
import { refuse } from './refuse.js';
import { parseSwitch, parseValue } from './values.js';

/** What every command takes besides the cmdlet's own parameters, with PowerShell's short names. */
const standard = { WhatIf: 'wi', Confirm: 'cf', Verbose: 'vb', Json: undefined } as const;
type Standard = keyof typeof standard;

/** PowerShell takes the longer dashes for dashes, as they come out of documents. A number may begin with one. */
const looksLikeParameter = (word: string): boolean => /^[-\u2013\u2014\u2015]+[\p{L}?_]/u.test(word);
const PARAMETER = /^(?:--?|[\u2013\u2014\u2015])([\p{L}?_][\p{L}\p{Nd}_-]*)(?:[:=](.*))?$/su;

/** `-h` is help, whatever else is typed. A value that spells it is written as `-Name:-h`, or stands behind `--`. */
export function asksForHelp(words: readonly string[]): boolean {
  const end = words.indexOf('--');
  return (end < 0 ? words : words.slice(0, end)).some((word) => /^(-\?|\/\?|-h|--?help)$/i.test(word));
}

export interface BoundCommand {
  readonly parameterSet: string;
  readonly bound: { readonly [name: string]: WireValue };
  readonly flags: { readonly [flag in Lowercase<Standard>]?: boolean };
}

interface Words {
  readonly named: Map<string, string[]>;
  readonly positional: string[];
  readonly flags: { [flag: string]: boolean };
}

/** The parameter a word names, by name, alias or an unambiguous beginning of either. */
function findName(word: string, cmdlet: Cmdlet): string {
  const wanted = word.toLowerCase();
  const spellings = new Map<string, string>();
  for (const [name, parameter] of Object.entries(cmdlet.parameters))
    for (const one of [name, ...parameter.aliases]) spellings.set(one.toLowerCase(), name);
  for (const [name, short] of Object.entries(standard)) {
    if (!cmdlet.changes && (name === 'WhatIf' || name === 'Confirm')) continue;
    for (const one of [name, ...(short === undefined ? [] : [short])]) spellings.set(one.toLowerCase(), name);
  }
  const exact = spellings.get(wanted);
  if (exact !== undefined) return exact;
  const matches = [...new Set([...spellings].filter(([spelling]) => spelling.startsWith(wanted)).map(([, name]) => name))];
  if (matches.length === 1) return matches[0]!;
  if (matches.length > 1) return refuse(`${cmdlet.name}: -${word} may be ${matches.map((one) => `-${one}`).join(' or ')}.`, word);
  return refuse(`${cmdlet.name} has no parameter -${word}. 'vmstorage ${cmdlet.name} --help' lists them.`, word);
}

function isStandard(name: string): name is Standard {
  return Object.hasOwn(standard, name);
}

function readWords(words: readonly string[], cmdlet: Cmdlet): Words {
  const result: Words = { named: new Map(), positional: [], flags: {} };
  for (let at = 0; at < words.length; at++) {
    const word = words[at]!;
    if (word === '--') {
      result.positional.push(...words.slice(at + 1));
      break;
    }
    if (!looksLikeParameter(word)) {
      result.positional.push(word);
      continue;
    }
    const [, spelling, inline] =
      PARAMETER.exec(word) ?? refuse(`${cmdlet.name} has no parameter ${word}. A value that begins so goes behind '--'.`, word);
    const name = findName(spelling!, cmdlet);
    const isSwitch = isStandard(name) || cmdlet.parameters[name]!.type.kind === 'switch';
    const value = inline ?? (isSwitch ? 'true' : nextValue(words[++at], name, cmdlet));
    if (!isStandard(name)) result.named.set(name, [...(result.named.get(name) ?? []), value]);
    else if (result.flags[name.toLowerCase()] !== undefined) refuse(`${cmdlet.name}: -${name} was given twice.`, name);
    else result.flags[name.toLowerCase()] = parseSwitch(value, name);
  }
  return result;
}

function nextValue(word: string | undefined, name: string, cmdlet: Cmdlet): string {
  if (word === undefined || word === '--') return refuse(`${cmdlet.name}: -${name} needs a value.`, name);
  if (looksLikeParameter(word))
    return refuse(
      `${cmdlet.name}: -${name} needs a value, and '${word}' looks like a parameter. If it is the value, write -${name}:${word}`,
      name,
    );
  return word;
}

interface Candidate {
  readonly set: string;
  readonly given: Map<string, string[]>;
  readonly missing: string[];
}

/** The set with what was given assigned to it, or undefined when it has no room for something. */
function tryCommandSet(set: string, words: Words, cmdlet: Cmdlet): Candidate | undefined {
  const given = new Map(words.named);
  for (const name of given.keys()) if (placementIn(cmdlet.parameters[name]!, set) === undefined) return undefined;
  const places = Object.entries(cmdlet.parameters)
    .flatMap(([name, parameter]): [string, Parameter, number][] => {
      const position = placementIn(parameter, set)?.position;
      return position === undefined || given.has(name) ? [] : [[name, parameter, position]];
    })
    .sort((a, b) => a[2] - b[2]);
  for (const text of words.positional) {
    const place = places.shift();
    if (place === undefined || place[1].type.kind === 'object') return undefined;
    given.set(place[0], [text]);
  }
  const missing = Object.entries(cmdlet.parameters).flatMap(([name, parameter]) =>
    placementIn(parameter, set)?.mandatory && !given.has(name) ? [name] : [],
  );
  return { set, given, missing };
}

/** PowerShell's rule, near enough: the default set when it has room for everything, else the one whose mandatory parameters are there. */
function chooseSet(words: Words, cmdlet: Cmdlet): Candidate {
  const candidates = cmdlet.sets.flatMap((set) => tryCommandSet(set, words, cmdlet) ?? []);
  const complete = candidates.filter((candidate) => candidate.missing.length === 0);
  const standardSet = candidates.find((candidate) => candidate.set === cmdlet.defaultSet);
  const chosen = standardSet ?? (complete.length === 1 ? complete[0] : undefined);
  if (chosen !== undefined && chosen.missing.length === 0) return chosen;
  if (chosen === undefined && complete.length > 1) {
    return refuse(
      `${cmdlet.name}: what was given fits several parameter sets (${complete.map((one) => one.set).join(', ')}). Give one more parameter.`,
    );
  }
  const nearest = chosen ?? candidates[0];
  if (nearest === undefined) {
    return refuse(`${whatDoesNotFit(words, cmdlet)} 'vmstorage ${cmdlet.name} --help' shows what goes together.`);
  }
  return refuse(`${cmdlet.name} needs ${inWords(nearest.missing.map((name) => `-${name}`))}.`);
}

/** Of no set: parameters that exclude each other, or more words without a name than there are places. */
function whatDoesNotFit(words: Words, cmdlet: Cmdlet): string {
  const named = [...words.named.keys()].map((name) => `-${name}`);
  const fits = (placed: number): boolean =>
    cmdlet.sets.some((set) => tryCommandSet(set, { ...words, positional: words.positional.slice(0, placed) }, cmdlet) !== undefined);
  if (!fits(0)) return `${cmdlet.name} cannot take ${inWords(named)} at the same time.`;
  const most = words.positional.findIndex((_, index) => !fits(index + 1));
  const extra = words.positional.slice(most).map((text) => `'${text}'`);
  const beside = named.length === 0 ? '' : ` beside ${inWords(named)}`;
  return `${cmdlet.name} has no place for ${inWords(extra)}${beside}.`;
}

/** `a`, `a and b`, `a, b and c`. */
function inWords(all: readonly string[]): string {
  return all.length < 2 ? all.join('') : `${all.slice(0, -1).join(', ')} and ${all.at(-1)}`;
}

export function bindWords(words: readonly string[], cmdlet: Cmdlet, cwd = process.cwd()): BoundCommand {
  const read = readWords(words, cmdlet);
  const { set, given } = chooseSet(read, cmdlet);
  if (given.has('AsJob')) refuse(`${cmdlet.name}: -AsJob makes a PowerShell job. Run the command in the background of your shell instead.`);
  const bound: { [name: string]: WireValue } = {};
  for (const [name, texts] of given) bound[name] = parseValue(texts, name, cmdlet.parameters[name]!, cwd);
  return { parameterSet: set, bound, flags: read.flags };
}
