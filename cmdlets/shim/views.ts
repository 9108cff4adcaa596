/** format.ps1xml and types.ps1xml: the views of Hyper-V, its AliasProperty members, and the way back for deserialized objects. */
import type { AnyObjectType, Column, Property } from '../define.js';
import { xmlText } from './quote.js';

const header = '<?xml version="1.0" encoding="utf-8"?>\n<!-- Generated from cmdlets/types; do not edit. -->';

/** Kinds whose values are texts that others choose; the rest cannot hold a character that a terminal obeys. */
const TEXTS: ReadonlySet<string> = new Set(['string', 'path', 'object', 'hashtable', 'psobject']);

/** A property as it is shown: texts through Visible.cs. */
function value(type: AnyObjectType, name: string): string {
  const real = (type.aliases as { readonly [alias: string]: string })[name] ?? name;
  const property = (type.properties as { readonly [name: string]: Property })[real];
  const text = xmlText(name);
  if (property !== undefined && !TEXTS.has(property.type.kind)) return `<PropertyName>${text}</PropertyName>`;
  return `<ScriptBlock>[VMStorage.PowerShell.Visible]::Value($_.${text})</ScriptBlock>`;
}

function cell(column: Column, type: AnyObjectType): string {
  const property = xmlText(column.property);
  if (column.unit === 'MiB') return `<ScriptBlock>if ($null -ne $_.${property}) { [math]::Floor($_.${property} / 1MB) }</ScriptBlock>`;
  return value(type, column.property);
}

function viewBody(type: AnyObjectType): string[] {
  if ('list' in type.view) {
    const items = type.view.list.map(
      (name: string) => `            <ListItem><Label>${xmlText(name)}</Label>${value(type, name)}</ListItem>`,
    );
    return [
      '      <ListControl><ListEntries><ListEntry><ListItems>',
      ...items,
      '      </ListItems></ListEntry></ListEntries></ListControl>',
    ];
  }
  const columns: readonly Column[] = type.view.table;
  return [
    '      <TableControl>',
    '        <TableHeaders>',
    ...columns.map((column) => {
      const label = `<Label>${xmlText(column.label ?? column.property)}</Label>`;
      const alignment = column.align === 'right' ? '<Alignment>Right</Alignment>' : '<Alignment>Left</Alignment>';
      return `          <TableColumnHeader>${label}<Width>${column.width}</Width>${alignment}</TableColumnHeader>`;
    }),
    '        </TableHeaders>',
    '        <TableRowEntries><TableRowEntry><Wrap /><TableColumnItems>',
    ...columns.map((column) => `          <TableColumnItem>${cell(column, type)}</TableColumnItem>`),
    '        </TableColumnItems></TableRowEntry></TableRowEntries>',
    '      </TableControl>',
  ];
}

export function renderFormat(types: readonly AnyObjectType[]): string {
  const views = types.flatMap((type) => [
    '    <View>',
    `      <Name>${xmlText(type.name)}</Name>`,
    '      <ViewSelectedBy>',
    `        <TypeName>${xmlText(`${type.namespace}.${type.name}`)}</TypeName>`,
    `        <TypeName>${xmlText(`Deserialized.${type.namespace}.${type.name}`)}</TypeName>`,
    '      </ViewSelectedBy>',
    ...viewBody(type),
    '    </View>',
  ]);
  return [header, '<Configuration>', '  <ViewDefinitions>', ...views, '  </ViewDefinitions>', '</Configuration>', ''].join('\n');
}

/** Levels of properties that serialization keeps: the object's own, and those of the drives in it. */
const serializationDepth = 2;

/** What scripts read as the state of a job has its failure as the reason; see runtime/HostJob.cs. */
const jobBlock = [
  '  <Type><Name>VMStorage.PowerShell.HostChildJob</Name><Members>',
  '    <AliasProperty><Name>JobStateInfo</Name><ReferencedMemberName>ReportedStateInfo</ReferencedMemberName></AliasProperty>',
  '  </Members></Type>',
];

export function renderTypes(types: readonly AnyObjectType[]): string {
  const blocks = types.flatMap((type) => {
    const name = `${type.namespace}.${type.name}`;
    const aliases = Object.entries(type.aliases as { [alias: string]: string }).map(
      ([alias, of]) =>
        `    <AliasProperty><Name>${xmlText(alias)}</Name><ReferencedMemberName>${xmlText(of)}</ReferencedMemberName></AliasProperty>`,
    );
    return [
      `  <Type><Name>${xmlText(name)}</Name><Members>`,
      ...aliases,
      '    <MemberSet><Name>PSStandardMembers</Name><Members>',
      `      <NoteProperty><Name>SerializationDepth</Name><Value>${serializationDepth}</Value></NoteProperty>`,
      '    </Members></MemberSet>',
      '  </Members></Type>',
      `  <Type><Name>${xmlText(`Deserialized.${name}`)}</Name><Members>`,
      '    <MemberSet><Name>PSStandardMembers</Name><Members>',
      `      <NoteProperty><Name>TargetTypeForDeserialization</Name><Value>${xmlText(name)}</Value></NoteProperty>`,
      '    </Members></MemberSet>',
      '  </Members></Type>',
    ];
  });
  return [header, '<Types>', ...blocks, ...jobBlock, '</Types>', ''].join('\n');
}
