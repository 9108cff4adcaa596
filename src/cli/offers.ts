/**
 * What Tab may offer after the words typed so far: commands, parameters of a cmdlet, what an enumeration has, names of VMs from the
 * host. Nothing where a path is meant: the shell offers files of its own accord.
 */
import type { Cmdlet, Parameter } from '../../cmdlets/define.js';
import { complete } from '../client/complete.js';

/** `typed`: all words, the command's own name first, the one under the cursor last. */
export async function offers(typed: readonly string[], cmdlets: readonly Cmdlet[]): Promise<readonly string[]> {
  const current = typed.at(-1) ?? '';
  const begins = (text: string): boolean => text.toLowerCase().startsWith(current.toLowerCase());
  const cmdlet = cmdlets.find((one) => one.name.toLowerCase() === typed[1]?.toLowerCase());
  if (typed.length < 3) return [...cmdlets.map((one) => one.name), 'host', 'serve', 'wizard', 'completion'].filter(begins);
  if (cmdlet === undefined) return [];
  const words = typed.slice(2, -1);
  const parameters = (): string[] =>
    Object.keys(cmdlet.parameters)
      .map((name) => `-${name}`)
      .filter(begins);
  if (current.startsWith('-')) return parameters();
  const asked = valueOf(words.at(-1), cmdlet) ?? placedAt(positionalWords(words, cmdlet), cmdlet);
  return asked === undefined ? parameters() : (await valuesOf(asked, current)).filter(begins);
}

/** The parameter that a word spells and that takes the next word as its value. */
function valueOf(word: string | undefined, cmdlet: Cmdlet): Parameter | undefined {
  const spelling = /^--?([A-Za-z]\w*)$/.exec(word ?? '')?.[1]?.toLowerCase();
  if (spelling === undefined) return undefined;
  const found = Object.entries(cmdlet.parameters).find(([name, one]) =>
    [name, ...one.aliases].some((each) => each.toLowerCase() === spelling),
  );
  return found && found[1].type.kind !== 'switch' ? found[1] : undefined;
}

function positionalWords(words: readonly string[], cmdlet: Cmdlet): number {
  return words.filter((word, at) => !word.startsWith('-') && valueOf(words[at - 1], cmdlet) === undefined).length;
}

/** Objects come from a pipeline alone, which this command does not have. */
function placedAt(position: number, cmdlet: Cmdlet): Parameter | undefined {
  return Object.values(cmdlet.parameters).find(
    (one) =>
      one.type.kind !== 'object' && !one.notImplemented && Object.values(one.sets).some((placement) => placement.position === position),
  );
}

async function valuesOf({ complete: kind, type }: Parameter, current: string): Promise<readonly string[]> {
  if (kind === 'vmName') return complete('vmName', current);
  return type.enumType ? Object.keys(type.enumType.values) : [];
}
