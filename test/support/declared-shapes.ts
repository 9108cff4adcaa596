/** What a TypeScript file declares, as lines of text: one per function, method, property and field, so that two files can be compared. */
import { readFileSync } from 'node:fs';
import { parseSync } from 'oxc-parser';

interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly name?: string;
  readonly key?: Node;
  readonly id?: Node;
  readonly kind?: string;
  readonly static?: boolean;
  readonly optional?: boolean;
  readonly declaration?: Node | null;
  readonly params?: readonly Node[];
  readonly value?: Node;
  readonly typeAnnotation?: Node | null;
  readonly returnType?: Node | null;
  readonly body?: Node | readonly Node[] | null;
  readonly members?: readonly Node[];
}

/** `name -> shape`; `Class.method` and `Interface.field` for members. */
export type Shapes = Readonly<Record<string, string>>;

export interface Declared {
  /** Functions and members of classes: what can be called. */
  readonly calls: Shapes;
  /** Fields of objects, by interface. */
  readonly objects: Readonly<Record<string, Shapes>>;
}

/** Names that stand for a type on one side only. */
const aliases: readonly (readonly [RegExp, string])[] = [
  [/\bNotices\b/g, '(count: number) => void'],
  [/\bDiskFormat\b/g, 'string'],
  [/\bNativeImageHash\b/g, '{ hash: string; bytes: bigint }'],
  [/\breadonly /g, ''],
  [/Array<([^<>]+)>/g, '$1[]'],
  [/ \| undefined/g, ''],
];

export function declaredIn(path: string): Declared {
  const source = readFileSync(path, 'utf8');
  const program = parseSync(path, source).program as unknown as { readonly body: readonly Node[] };
  // A type annotation's text begins with its colon.
  const typeText = (annotation: Node | null | undefined): string =>
    aliases
      .reduce((text, [from, to]) => text.replaceAll(from, to), annotation ? source.slice(annotation.start, annotation.end) : '')
      .replace(/^:\s*/, '');
  const signature = (params: readonly Node[], returns: Node | null | undefined): string =>
    `(${params.map((one) => `${one.name}: ${typeText(one.typeAnnotation)}`).join(', ')}): ${typeText(returns)}`;

  const calls: Record<string, string> = {};
  const objects: Record<string, Record<string, string>> = {};
  const membersOf = (node: Node): readonly Node[] => node.members ?? (node.body as unknown as { body: readonly Node[] }).body;
  const addMember = (owner: string, member: Node, into: Record<string, string>): void => {
    const name = member.key?.name;
    if (!name) return;
    const label = owner === '' ? name : `${owner}.${name}`;
    if (member.type === 'TSMethodSignature') into[label] = signature(member.params ?? [], member.returnType);
    else if (member.type === 'MethodDefinition' && member.kind === 'get') into[label] = typeText(member.value?.returnType);
    else if (member.type === 'MethodDefinition') into[label] = signature(member.value?.params ?? [], member.value?.returnType);
    else into[label] = `${typeText(member.typeAnnotation)}${member.optional ? ' (optional)' : ''}`;
  };

  for (const statement of program.body) {
    const node = statement.declaration;
    const name = node?.id?.name;
    if (!node || !name) continue;
    if (node.type === 'TSDeclareFunction') calls[name] = signature(node.params ?? [], node.returnType);
    else if (node.type === 'ClassDeclaration') for (const member of membersOf(node)) addMember(name, member, calls);
    else if (node.type === 'TSInterfaceDeclaration') {
      const fields: Record<string, string> = {};
      for (const member of membersOf(node)) {
        const literal = (member.typeAnnotation as { typeAnnotation?: Node } | undefined)?.typeAnnotation;
        // NativeModule's `Class: { start(...) }`: the static side of a class.
        if (name === 'NativeModule' && literal?.type === 'TSTypeLiteral')
          for (const one of membersOf(literal)) addMember(member.key!.name!, one, calls);
        else addMember('', member, fields);
      }
      objects[name] = fields;
    }
  }
  return { calls, objects };
}
