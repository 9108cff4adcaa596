/**
 * The words after a script's name: --help prints what the script takes and ends with 0, a word it does not take is one line on standard
 * error and ends with 2. In both cases nothing was begun.
 */
import { parseArgs } from 'node:util';

export interface OptionText {
  /** What stands for its value in the usage, such as N or MiB; without it the option is a switch. */
  readonly value?: string;
  readonly default?: string;
  /** One line, with the unit of the value. */
  readonly says: string;
}

export interface CommandText {
  /** As in `npm run NAME`. */
  readonly name: string;
  /** One sentence without its full stop. */
  readonly says: string;
  readonly options: { readonly [name: string]: OptionText };
  /** Words that are no options, where the script takes some; `says` lists them. */
  readonly words?: { readonly name: string; readonly says: string };
  /** What exit codes mean. */
  readonly exit: string;
}

export class CommandLine {
  readonly words: readonly string[];
  readonly #values = new Map<string, string>();

  /** Throws one of the two ends of a script that begins nothing. */
  constructor(
    private readonly text: CommandText,
    given: readonly string[],
  ) {
    const taken = Object.entries(text.options).map(
      ([name, { value }]) => [name, { type: value === undefined ? 'boolean' : 'string' }] as const,
    );
    const { tokens } = parseArgs({
      args: [...given],
      options: Object.fromEntries(taken),
      strict: false,
      allowPositionals: true,
      tokens: true,
    });
    const words: string[] = [];
    for (const token of tokens) {
      if (token.kind === 'positional') words.push(token.value);
      if (token.kind !== 'option') continue;
      if (['--help', '-h', '-?'].includes(token.rawName)) throw new UsageAsked(usage(text));
      const option = text.options[token.name];
      if (!option || !token.rawName.startsWith('--')) throw this.wrong(`there is no ${token.rawName}; there are ${this.#allowed()}`);
      if (option.value === undefined && token.value !== undefined) throw this.wrong(`${token.rawName} takes no value`);
      if (option.value !== undefined && !token.value) throw this.wrong(`${token.rawName} needs a value: ${token.rawName} ${option.value}`);
      this.#values.set(token.name, token.value ?? '');
    }
    if (words.length > 0 && !text.words) throw this.wrong(`"${words[0]}" is no option; there are ${this.#allowed()}`);
    this.words = words;
  }

  has(name: string): boolean {
    return this.#values.has(name);
  }

  /** As given, else the default; null when there is neither. */
  value(name: string): string | null {
    return this.#values.get(name) ?? this.text.options[name]?.default ?? null;
  }

  /** Of an option that has a default, or was given. */
  whole(name: string, least: number, most = Number.MAX_SAFE_INTEGER): number {
    const given = this.value(name) ?? '';
    const value = given === '' ? NaN : Number(given);
    if (Number.isInteger(value) && value >= least && value <= most) return value;
    throw this.wrong(`--${name} ${given}: a whole number from ${least}${most === Number.MAX_SAFE_INTEGER ? '' : ` to ${most}`}`);
  }

  /** To be thrown. */
  wrong(why: string): WrongWord {
    return new WrongWord(`${this.text.name}: ${why}; --help says more`);
  }

  #allowed(): string {
    const options = [...Object.keys(this.text.options), 'help'].map((name) => `--${name}`);
    return [...(this.text.words ? [this.text.words.says] : []), ...options].join(', ');
  }
}

/** The text to print. */
export class UsageAsked extends Error {}
/** The line to print. */
export class WrongWord extends Error {}

/** Reads the words of this process; `read` makes of them what the script needs, and may refuse what they say. */
export function readCommandLine<T>(text: CommandText, read: (line: CommandLine) => T): T {
  try {
    return read(new CommandLine(text, process.argv.slice(2)));
  } catch (cause) {
    if (cause instanceof UsageAsked) {
      process.stdout.write(cause.message);
      process.exit(0);
    }
    if (!(cause instanceof WrongWord)) throw cause;
    process.stderr.write(`${cause.message}\n`);
    process.exit(2);
  }
}

export function usage({ name, says, options, words, exit }: CommandText): string {
  const rows = [
    ...(words ? [[words.name, words.says] as const] : []),
    ...Object.entries(options).map(([option, { value, default: preset, says: what }]) => {
      const word = value === undefined ? `--${option}` : `--${option} ${value}`;
      return [word, preset === undefined ? what : `${what} (default: ${preset})`] as const;
    }),
    ['--help', 'says this'] as const,
  ];
  const width = Math.max(...rows.map(([word]) => word.length));
  const begin = name === 'test' ? 'npm test --' : `npm run ${name} --`;
  return [
    `${begin}${Object.keys(options).length > 0 ? ' [option ...]' : ''}${words ? ` [${words.name} ...]` : ''}`,
    `  ${says}.`,
    '',
    ...rows.map(([word, what]) => `  ${word.padEnd(width)}  ${what}`),
    '',
    `Exit code: ${exit}.\n`,
  ].join('\n');
}
