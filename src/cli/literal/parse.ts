/**
 * PowerShell's literals as values: what about_Data_Sections would allow, read and never run. A bare word is its text, where PowerShell would
 * take it for a command: the shell before us may have eaten the quotes.
 *
 * ```text
 * text   ::= newline* list newline* end                 alone, with no comma: the value itself
 * list   ::= value (',' newline* value)*
 * value  ::= string | word | '(' list ')' | '@(' lines ')' | '@{' pairs '}'
 * lines  ::= (list ((';' | newline)+ list)*)?           all of them are one list
 * pairs  ::= (key '=' newline* list ((';' | newline)+ ...)*)?
 * ```
 */
import { numberOf } from './numbers.js';
import { LiteralError, tokensOf, type Mark, type Token } from './tokens.js';

/** An integer is a bigint: sizes need all its digits. */
export type Literal = string | bigint | number | boolean | null | readonly Literal[] | LiteralTable;
/** In the order given. No key is there twice, in whatever case. */
export type LiteralTable = ReadonlyMap<string, Literal>;

/** Deeper than anything a parameter takes; each level is a call. */
const DEPTH_MOST = 16;

/** Throws LiteralError. */
export function parseLiteral(text: string): Literal {
  return new Parser(tokensOf(text), valueOf).whole();
}

/** Names and the like, `a,b`, `@('a', 'b')`: the same, but a bare word is its text, also where it could be a number. Throws LiteralError. */
export function parseTexts(text: string): readonly string[] {
  const parsed = new Parser(tokensOf(text), (word) => word).whole();
  const values: readonly Literal[] = Array.isArray(parsed) ? parsed : [parsed];
  return values.map((value) => {
    if (typeof value === 'string') return value;
    throw new LiteralError('a list of texts is expected, with nothing inside another', 0);
  });
}

class Parser {
  #next = 0;
  #depth = 0;

  constructor(
    private readonly tokens: readonly Token[],
    private readonly read: (word: string, at: number) => Literal,
  ) {}

  whole(): Literal {
    this.#skip('newline');
    const value = this.#list();
    this.#skip('newline');
    if (!this.#is('end')) throw this.#unexpected();
    return value;
  }

  #list(): Literal {
    const values = [this.#value()];
    while (this.#take(',')) {
      this.#skip('newline');
      values.push(this.#value());
    }
    return values.length === 1 ? values[0]! : values;
  }

  #value(): Literal {
    const token = this.tokens[this.#next]!;
    if (token.kind === 'text') {
      this.#next += 1;
      return token.text;
    }
    if (token.kind === 'word') {
      this.#next += 1;
      return this.read(token.word, token.at);
    }
    if (++this.#depth > DEPTH_MOST) throw new LiteralError('the brackets are nested too deep', token.at);
    try {
      if (this.#take('@{')) return this.#pairs(token.at);
      if (this.#take('@(')) return this.#lines(token.at);
      if (!this.#take('(')) throw this.#unexpected();
      this.#skip('newline');
      const value = this.#list();
      this.#skip('newline');
      this.#close(')', token.at);
      return value;
    } finally {
      this.#depth -= 1;
    }
  }

  #lines(opened: number): readonly Literal[] {
    const values: Literal[] = [];
    this.#skip('newline', ';');
    while (!this.#is(')') && !this.#is('end')) {
      const line = this.#list();
      values.push(...(Array.isArray(line) ? (line as readonly Literal[]) : [line]));
      if (!this.#skip('newline', ';')) break;
    }
    this.#close(')', opened);
    return values;
  }

  #pairs(opened: number): LiteralTable {
    const table = new Map<string, Literal>();
    const keys = new Set<string>();
    this.#skip('newline');
    while (!this.#is('}') && !this.#is('end')) {
      const token = this.tokens[this.#next]!;
      if (token.kind === 'mark') throw this.#unexpected();
      const key = token.kind === 'text' ? token.text : token.word;
      if (token.kind === 'word' && !/^[\p{L}_][\p{L}\p{Nd}_]*$/u.test(key))
        throw new LiteralError(`the key '${key}' must be a name, or stand in quotes`, token.at);
      this.#next += 1;
      if (!this.#take('=')) throw new LiteralError(`'=' is missing behind the key '${key}'`, token.at);
      this.#skip('newline');
      const value = this.#list();
      if (keys.has(key.toLowerCase())) throw new LiteralError(`the key '${key}' is given twice`, token.at);
      keys.add(key.toLowerCase());
      table.set(key, value);
      if (!this.#skip('newline', ';')) break;
    }
    this.#close('}', opened);
    return table;
  }

  #is(mark: Mark): boolean {
    const token = this.tokens[this.#next]!;
    return token.kind === 'mark' && token.mark === mark;
  }

  #take(mark: Mark): boolean {
    const there = this.#is(mark);
    if (there) this.#next += 1;
    return there;
  }

  /** Whether there were any. */
  #skip(...marks: readonly Mark[]): boolean {
    const before = this.#next;
    while (marks.some((mark) => this.#take(mark)));
    return this.#next > before;
  }

  #close(mark: ')' | '}', opened: number): void {
    if (this.#take(mark)) return;
    throw this.#is('end') ? new LiteralError(`'${mark}' is missing at the end`, opened) : this.#unexpected();
  }

  #unexpected(): LiteralError {
    const token = this.tokens[this.#next]!;
    const what =
      token.kind === 'mark'
        ? token.mark === 'newline'
          ? 'the end of the line'
          : `'${token.mark}'`
        : `'${token.kind === 'text' ? token.text : token.word}'`;
    return new LiteralError(
      token.kind === 'mark' && token.mark === 'end' ? 'a value is missing at the end' : `${what} is not expected`,
      token.at,
    );
  }
}

function valueOf(word: string, at: number): Literal {
  const constant = { $true: true, $false: false, $null: null }[word.toLowerCase()];
  if (constant !== undefined) return constant;
  if (/^[$@&!|<>[]/.test(word)) throw new LiteralError(`'${word}' has no value here; give the value itself, in quotes`, at);
  return numberOf(word) ?? word;
}
