/**
 * Text as a person may see it. Names, paths, notes and what guests and kernels say are chosen by others: a terminal obeys control characters
 * (it moves, erases, reports itself to its input), and what has no shape or turns the direction of reading makes a text look like another.
 * Such characters are written as what they are: `\n`, `\u{1b}`, `\u{202e}`. The module's Visible.cs has the same rule.
 *
 * Objects and JSON keep the text itself: this is for the edges where text meets an eye.
 */

/** Controls (C0, DEL, C1), format characters (directions, joiners, tags), line and paragraph separators, halves of characters, and what is ignored when shown. */
const HIDDEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Default_Ignorable_Code_Point}]/gu;
const SHORT: { readonly [character: string]: string } = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** In one line: a cell, a value, a line of progress. */
export function visibleLine(text: string): string {
  return text.replace(HIDDEN, (one) => SHORT[one] ?? `\\u{${one.codePointAt(0)!.toString(16)}}`);
}

/** A message may have several lines. Those after the first are indented, so that none of them can pass for a message of its own. */
export function visibleMessage(text: string): string {
  return text.split('\n').map(visibleLine).join('\n  ');
}

/** Lines that were made one by one, of cells that are visible already: nothing else gets through. */
export function visibleLines(text: string): string {
  return text.split('\n').map(visibleLine).join('\n');
}

/** JSON as it was serialised, on one line or more: the same document, with the same characters as escapes. */
export function visibleJson(json: string): string {
  return json.replace(HIDDEN, (one) =>
    one === '\n' ? one : [...unitsOf(one)].map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join(''),
  );
}

function* unitsOf(character: string): Generator<number> {
  for (let at = 0; at < character.length; at += 1) yield character.charCodeAt(at);
}

/** True when something in it would not be seen, or would be obeyed. */
export const hasHidden = (text: string): boolean => text.search(HIDDEN) >= 0;
