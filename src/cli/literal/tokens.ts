/**
 * The words of PowerShell's literals: strings, punctuation, and bare words, which may be numbers, `$true`, or plain text. What is code in
 * PowerShell (a variable, an expansion in a string, a here-string) is refused: its value is not known here.
 */

/** Where in the text, counted from 0, and what is wrong there. */
export class LiteralError extends Error {
  constructor(
    message: string,
    readonly at: number,
  ) {
    super(message);
    this.name = 'LiteralError';
  }
}

export type Mark = '@{' | '@(' | '(' | ')' | '}' | ',' | ';' | '=' | 'newline' | 'end';
export type Token =
  | { readonly kind: 'mark'; readonly mark: Mark; readonly at: number }
  | { readonly kind: 'text'; readonly text: string; readonly at: number }
  | { readonly kind: 'word'; readonly word: string; readonly at: number };

// PowerShell takes the typographic quotes for quotes, as they come out of documents.
const SINGLE_QUOTES = "'\u2018\u2019\u201a\u201b";
const DOUBLE_QUOTES = '"\u201c\u201d\u201e';
const SPACES = ' \t\v\f\u0085\u00a0';
/** A bare word ends before one of these. */
const WORD_END = `${SPACES}\r\n,;(){}=${SINGLE_QUOTES}${DOUBLE_QUOTES}\``;
const MARKS = ['@{', '@(', '(', ')', '}', ',', ';', '='] as const;
/** about_Special_Characters; a backtick before any other character is that character. */
const ESCAPES: { readonly [letter: string]: string } = {
  '0': '\0',
  a: '\x07',
  b: '\b',
  e: '\x1b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
};

export function tokensOf(text: string): readonly Token[] {
  const tokens: Token[] = [];
  let at = 0;
  while (at < text.length) {
    const character = text[at]!;
    if (SPACES.includes(character)) at += 1;
    else if (character === '`' && /^`\r?\n/.test(text.slice(at, at + 3))) at = text.indexOf('\n', at) + 1;
    else if (character === '\n' || character === '\r') {
      tokens.push({ kind: 'mark', mark: 'newline', at });
      at += 1;
    } else if (character === '#' || text.startsWith('<#', at)) at = afterComment(text, at);
    else at = readToken(text, at, tokens);
  }
  tokens.push({ kind: 'mark', mark: 'end', at });
  return tokens;
}

function afterComment(text: string, at: number): number {
  const closing = text[at] === '#' ? '\n' : '#>';
  const end = text.indexOf(closing, at);
  if (closing === '\n') return end < 0 ? text.length : end;
  if (end < 0) throw new LiteralError('the comment has no #> at its end', at);
  return end + 2;
}

/** Puts the token that begins at `at` behind the others; returns where it ends. */
function readToken(text: string, at: number, tokens: Token[]): number {
  const character = text[at]!;
  if (/^@['"\u2018-\u201e]/.test(text.slice(at, at + 2))) throw new LiteralError('a here-string is not taken', at);
  const mark = MARKS.find((one) => text.startsWith(one, at));
  if (mark !== undefined) {
    tokens.push({ kind: 'mark', mark, at });
    return at + mark.length;
  }
  if (SINGLE_QUOTES.includes(character) || DOUBLE_QUOTES.includes(character)) {
    const [value, end] = SINGLE_QUOTES.includes(character) ? readVerbatim(text, at) : readExpandable(text, at);
    if (end < text.length && !`${SPACES}\r\n,;)}=`.includes(text[end]!)) throw new LiteralError('something follows the closing quote', end);
    tokens.push({ kind: 'text', text: value, at });
    return end;
  }
  let end = at;
  while (end < text.length && !WORD_END.includes(text[end]!)) end += 1;
  if (end === at || '`{('.includes(text[end] ?? ' ') || `${SINGLE_QUOTES}${DOUBLE_QUOTES}`.includes(text[end] ?? ' ')) {
    throw new LiteralError(`'${text[end]}' cannot stand here; put the whole value in quotes`, end);
  }
  tokens.push({ kind: 'word', word: text.slice(at, end), at });
  return end;
}

/** 'text': two quotes are one, nothing else is special. */
function readVerbatim(text: string, start: number): readonly [string, number] {
  let value = '';
  for (let at = start + 1; at < text.length; at++) {
    if (!SINGLE_QUOTES.includes(text[at]!)) value += text[at];
    else if (SINGLE_QUOTES.includes(text[at + 1] ?? ' ')) value += text[++at];
    else return [value, at + 1];
  }
  throw new LiteralError('the closing quote is missing', start);
}

/** "text": two quotes are one, a backtick escapes, and what PowerShell would expand is refused. */
function readExpandable(text: string, start: number): readonly [string, number] {
  let value = '';
  for (let at = start + 1; at < text.length; at++) {
    const character = text[at]!;
    if (character === '`' && at + 1 < text.length) {
      const code = /^u\{([0-9a-f]{1,6})\}/i.exec(text.slice(at + 1, at + 10));
      if (text[at + 1] === 'u' && (code === null || parseInt(code[1]!, 16) > 0x10ffff))
        throw new LiteralError('`u needs a {code} of Unicode', at);
      value += code === null ? (ESCAPES[text[at + 1]!] ?? text[at + 1]!) : String.fromCodePoint(parseInt(code[1]!, 16));
      at += code === null ? 1 : 1 + code[0].length - 1;
    } else if (character === '$' && /[\p{L}\p{Nd}_?^${(:]/u.test(text[at + 1] ?? ' ')) {
      throw new LiteralError('a variable in "double quotes" has no value here; use \'single quotes\' for a $', at);
    } else if (!DOUBLE_QUOTES.includes(character)) value += character;
    else if (DOUBLE_QUOTES.includes(text[at + 1] ?? ' ')) value += text[++at];
    else return [value, at + 1];
  }
  throw new LiteralError('the closing quote is missing', start);
}
