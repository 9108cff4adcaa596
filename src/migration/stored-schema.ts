/**
 * What is in a record of a move, whoever wrote it: a text of the right hash may still be anything, and what is read here is acted upon before
 * any cmdlet is served. Fields beyond these are a newer version's and are kept.
 */
import { Type, type TSchema } from 'typebox';
import { Compile } from 'typebox/compile';

const text = Type.String({ maxLength: 1_000_000 });
/** Becomes part of names of files. */
const id = Type.String({ pattern: '^[0-9A-Za-z-]{1,64}$' });
const path = Type.String({ minLength: 2, maxLength: 4096, pattern: '^/' });
const decimal = Type.String({ pattern: '^[0-9]{1,30}$' });
const time = Type.String({ pattern: '^\\d{4}-\\d{2}-\\d{2}T[0-9:.]+Z$' });
const orNull = (schema: TSchema): TSchema => Type.Union([Type.Null(), schema]);
const list = (schema: TSchema): TSchema => Type.Array(schema, { maxItems: 10_000 });

const identity = Type.Object({ device: decimal, inode: decimal, bornNs: Type.String({ pattern: '^-?[0-9]{1,30}$' }) });
const moved = Type.Object({ source: path, target: path });
const kept = Type.Object({ path, reason: text });

const plan = Type.Object({
  moveId: id,
  vmId: id,
  vmName: text,
  createdAt: time,
  generation: Type.Integer(),
  disks: list(Type.Object({ disk: Type.Integer({ minimum: 0 }), source: path, target: path, format: text })),
  after: Type.Object({ id, name: text, path, disks: list(Type.Object({ id, path })) }),
  configurationSource: path,
  configurationTarget: path,
  createdFolders: list(path),
  keepSources: list(kept),
  bootId: text,
});

const target = Type.Object({ path, device: text });

const entry = Type.Object({
  schema: Type.Literal(2),
  state: Type.Union([Type.Literal('open'), Type.Literal('committed'), Type.Literal('undoing')]),
  plan,
  openedAt: time,
  sources: orNull(list(Type.Object({ path, identity, real: path, device: text }))),
  targets: list(Type.Object({ path, device: text, identity: orNull(identity) })),
  configuration: orNull(target),
  needs: list(
    Type.Object({
      target: path,
      device: text,
      folder: path,
      bytes: decimal,
      data: Type.Optional(decimal),
      most: Type.Optional(decimal),
    }),
  ),
  reason: orNull(text),
});

const receipt = Type.Object({
  schema: Type.Literal(1),
  moveId: id,
  vmId: id,
  vmName: text,
  startedAt: time,
  finishedAt: orNull(time),
  configurationSource: path,
  configurationTarget: path,
  moved: list(moved),
  kept: list(kept),
  status: Type.Object({ moveId: id, phase: text, percent: Type.Number(), bytesTotal: text, bytesPerSecond: Type.Number() }),
  end: Type.Optional(Type.Union([Type.Literal('Completed'), Type.Literal('Failed'), Type.Literal('Stopped')])),
  failure: Type.Optional(Type.Object({ code: text, message: text, disk: orNull(Type.Integer()), path: orNull(text) })),
});

const checks = { entry: Compile(entry), receipt: Compile(receipt) } as const;

/** The rule that a record breaks ("/plan/disks must be array"), or null. */
export function brokenRule(kind: keyof typeof checks, value: unknown): string | null {
  const check = checks[kind];
  if (check.Check(value)) return null;
  const first = check.Errors(value)[0];
  return first ? `${first.instancePath === '' ? 'the document' : first.instancePath} ${first.message}` : 'it does not match its schema';
}
