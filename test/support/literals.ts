/** Literals of PowerShell for property tests: any value, and how it is spelled. */
import * as fc from 'fast-check';
import type { Literal } from '../../src/cli/literal/parse.js';

const text = fc.oneof(fc.string({ maxLength: 12 }), fc.stringMatching(/^[ '"`$;,={}()@#a-c/\\\n\u2018\u201c.-]{0,12}$/));
const scalar: fc.Arbitrary<Literal> = fc.oneof(
  text,
  fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }),
  fc.boolean(),
  fc.constant(null),
);

/** PowerShell's keys are equal whatever their case. */
const table = (value: fc.Arbitrary<Literal>): fc.Arbitrary<Literal> =>
  fc
    .uniqueArray(fc.tuple(fc.stringMatching(/^[a-z_][a-z0-9_]{0,5}$/), value), { selector: ([key]) => key, maxLength: 4 })
    .map((entries) => new Map(entries) as Literal);

/** Lists of at least two: one alone in parentheses is the value itself. */
export const literal: fc.Arbitrary<Literal> = fc.letrec<{ value: Literal }>((tie) => ({
  value: fc.oneof({ maxDepth: 3 }, scalar, table(tie('value')), fc.array(scalar, { minLength: 2, maxLength: 4 }) as fc.Arbitrary<Literal>),
})).value;

export function spelled(value: Literal): string {
  if (value === null) return '$null';
  if (typeof value === 'boolean') return value ? '$true' : '$FALSE';
  if (typeof value === 'bigint' || typeof value === 'number') return String(value);
  if (typeof value === 'string') return `'${value.replace(/['\u2018-\u201b]/g, '$&$&')}'`;
  if (value instanceof Map) return `@{ ${[...value].map(([key, one]: [string, Literal]) => `${key} = ${spelled(one)}`).join('\n')} }`;
  return `@(${(value as readonly Literal[]).map(spelled).join(', ')})`;
}
