/** What a client may send. Anything else closes its connection: a client we do not understand cannot be answered. */
import { Type } from 'typebox';
import { Compile } from 'typebox/compile';
import type { ClientMessage } from '../protocol/messages.js';

const name = Type.String({ minLength: 1, maxLength: 200 });
const values = Type.Record(Type.String({ maxLength: 200 }), Type.Unknown());

const shapes = {
  hello: Type.Object({
    k: Type.Literal('hello'),
    v: Type.Integer(),
    pid: Type.Integer(),
    client: Type.Optional(Type.String({ maxLength: 200 })),
  }),
  begin: Type.Object({
    k: Type.Literal('begin'),
    cmdlet: name,
    cwd: Type.String({ maxLength: 4096 }),
    prefs: Type.Object({ verbose: Type.Boolean(), debug: Type.Boolean(), progress: Type.Boolean() }),
  }),
  process: Type.Object({ k: Type.Literal('process'), seq: Type.Integer(), parameterSet: Type.String({ maxLength: 200 }), bound: values }),
  end: Type.Object({ k: Type.Literal('end') }),
  reply: Type.Object({ k: Type.Literal('reply'), id: Type.Integer(), value: Type.Boolean() }),
  stop: Type.Object({ k: Type.Literal('stop') }),
  complete: Type.Object({ k: Type.Literal('complete'), kind: name, word: Type.String({ maxLength: 4096 }) }),
};
const checkers = new Map<string, { Check(value: unknown): boolean }>(Object.entries(shapes).map(([kind, shape]) => [kind, Compile(shape)]));

export function toClientMessage(value: unknown): ClientMessage | null {
  const kind = typeof value === 'object' && value !== null && 'k' in value && typeof value.k === 'string' ? value.k : '';
  return checkers.get(kind)?.Check(value) ? (value as ClientMessage) : null;
}
