/** MAML: what Get-Help shows. The file lies beside the module as `<culture>/<assembly>.dll-Help.xml`. */
import { placementIn, type Cmdlet, type Parameter, type Placement } from '../define.js';
import { elementType } from './csharp-types.js';
import { xmlText } from './quote.js';

const shortNames: { readonly [name: string]: string } = {
  string: 'String',
  bool: 'Boolean',
  short: 'Int16',
  int: 'Int32',
  long: 'Int64',
  uint: 'UInt32',
  ulong: 'UInt64',
};

function valueName({ type }: Parameter): string {
  const name = elementType(type).split('.').at(-1)!;
  return (shortNames[name] ?? name) + (type.array ? '[]' : '');
}

function pipeline({ byValue, byName }: Placement): string {
  if (byValue) return byName ? 'True (ByPropertyName, ByValue)' : 'True (ByValue)';
  return byName ? 'True (ByPropertyName)' : 'False';
}

function renderParameter(name: string, parameter: Parameter, placement: Placement): string {
  const head = [
    `required="${placement.mandatory === true}"`,
    `variableLength="${parameter.type.array}"`,
    `globbing="${parameter.wildcards}"`,
    `pipelineInput="${pipeline(placement)}"`,
    `position="${placement.position ?? 'named'}"`,
    `aliases="${parameter.aliases.length === 0 ? 'none' : xmlText(parameter.aliases.join(', '))}"`,
  ];
  const value =
    parameter.type.kind === 'switch'
      ? ''
      : `<command:parameterValue required="true" variableLength="${parameter.type.array}">${xmlText(valueName(parameter))}</command:parameterValue>`;
  return (
    `<command:parameter ${head.join(' ')}><maml:name>${xmlText(name)}</maml:name>` +
    `<maml:description><maml:para>${xmlText(parameter.help)}</maml:para></maml:description>${value}` +
    `<dev:type><maml:name>${xmlText(valueName(parameter))}</maml:name><maml:uri/></dev:type></command:parameter>`
  );
}

function whatIf(): Parameter[] {
  const one = (help: string): Parameter => ({
    type: { kind: 'switch', array: false, nullable: false },
    help,
    sets: {},
    aliases: [],
    validate: [],
    complete: 'nothing',
    wildcards: false,
    notImplemented: false,
    inForce: [],
    notYet: [],
    extension: false,
  });
  return [one('Says what would be done and does nothing.'), one('Asks before it does anything.')];
}

/** Mandatory and positional ones first, as PowerShell's own syntax has them. */
function inOrder(cmdlet: Cmdlet, set: string): [string, Parameter, Placement][] {
  const members = Object.entries(cmdlet.parameters).flatMap(([name, parameter]): [string, Parameter, Placement][] => {
    const placement = placementIn(parameter, set);
    return placement === undefined ? [] : [[name, parameter, placement]];
  });
  const rank = ([, , p]: [string, Parameter, Placement]): number => p.position ?? (p.mandatory ? 100 : 200);
  return members.sort((a, b) => rank(a) - rank(b));
}

function renderCommand(cmdlet: Cmdlet): string {
  const [whatIfText, confirm] = whatIf();
  const standard: [string, Parameter, Placement][] = cmdlet.changes
    ? [
        ['WhatIf', whatIfText!, {}],
        ['Confirm', confirm!, {}],
      ]
    : [];
  const syntax = cmdlet.sets.map((set) => {
    const parameters = [...inOrder(cmdlet, set), ...standard].map(([name, parameter, placement]) =>
      renderParameter(name, parameter, placement),
    );
    return `<command:syntaxItem><maml:name>${cmdlet.name}</maml:name>\n${parameters.join('\n')}\n</command:syntaxItem>`;
  });
  const all = [
    ...Object.entries(cmdlet.parameters).map(([name, parameter]) => renderParameter(name, parameter, Object.values(parameter.sets)[0]!)),
    ...standard.map(([name, parameter, placement]) => renderParameter(name, parameter, placement)),
  ];
  const inputs = Object.values(cmdlet.parameters).filter((one) => Object.values(one.sets).some((p) => p.byValue));
  const inputNames = [...new Set(inputs.map((one) => elementType(one.type).replace('global::', '')))].map(
    (name) => shortNames[name] ?? name,
  );
  const outputNames = cmdlet.outputs.length === 0 ? ['None'] : cmdlet.outputs.map((type) => `${type.namespace}.${type.name}`);
  const typeList = (names: readonly string[], tag: string): string[] =>
    names.map(
      (name) =>
        `<command:${tag}><dev:type><maml:name>${xmlText(name)}</maml:name></dev:type><maml:description><maml:para></maml:para></maml:description></command:${tag}>`,
    );
  const examples = cmdlet.examples.map(
    (example, index) =>
      `<command:example><maml:title>Example ${index + 1}: ${xmlText(example.title)}</maml:title><dev:code>${xmlText(example.code)}</dev:code>` +
      `<dev:remarks><maml:para>${xmlText(example.remarks)}</maml:para></dev:remarks></command:example>`,
  );
  return [
    '<command:command xmlns:maml="http://schemas.microsoft.com/maml/2004/10" xmlns:command="http://schemas.microsoft.com/maml/dev/command/2004/10" xmlns:dev="http://schemas.microsoft.com/maml/dev/2004/10">',
    `<command:details><command:name>${cmdlet.name}</command:name><command:verb>${cmdlet.verb}</command:verb><command:noun>${cmdlet.noun}</command:noun>`,
    `<maml:description><maml:para>${xmlText(cmdlet.synopsis)}</maml:para></maml:description></command:details>`,
    `<maml:description><maml:para>${xmlText(cmdlet.description)}</maml:para></maml:description>`,
    `<command:syntax>\n${syntax.join('\n')}\n</command:syntax>`,
    `<command:parameters>\n${all.join('\n')}\n</command:parameters>`,
    `<command:inputTypes>${typeList(inputNames.length === 0 ? ['None'] : inputNames, 'inputType').join('')}</command:inputTypes>`,
    `<command:returnValues>${typeList(outputNames, 'returnValue').join('')}</command:returnValues>`,
    `<command:examples>\n${examples.join('\n')}\n</command:examples>`,
    '<command:relatedLinks><maml:navigationLink><maml:linkText>about_VMStorage</maml:linkText><maml:uri/></maml:navigationLink></command:relatedLinks>',
    '</command:command>',
  ].join('\n');
}

export function renderHelp(cmdlets: readonly Cmdlet[]): string {
  return [
    '<?xml version="1.0" encoding="utf-8"?>',
    '<!-- Generated from cmdlets; do not edit. -->',
    '<helpItems schema="maml" xmlns="http://msh">',
    ...cmdlets.map(renderCommand),
    '</helpItems>',
    '',
  ].join('\n');
}

/** about_VMStorage: found by Get-Help without import. */
export function renderAbout(cmdlets: readonly Cmdlet[]): string {
  return [
    'TOPIC',
    '    about_VMStorage',
    '',
    'SHORT DESCRIPTION',
    '    Moves the storage of a running virtual machine on Linux with the cmdlets of Hyper-V.',
    '',
    'LONG DESCRIPTION',
    '    The cmdlets talk to the VM storage host over a Unix socket: VMSTORAGE_HOST, or host.sock in VMSTORAGE_HOME, or /run/vmstorage/host.sock.',
    '    When it does not run it is started with the command in VMSTORAGE_CLI, or vmstorage on PATH, unless VMSTORAGE_NOSTART is set.',
    '    Ctrl+C and Stop-Job stop a storage move; closing the shell does not: Get-VMStorageMove shows it, Stop-VMStorageMove stops it.',
    '    The module is also named Hyper-V, so that Hyper-V\\Get-VM and #Requires -Modules Hyper-V work.',
    '',
    'CMDLETS',
    ...cmdlets.map((cmdlet) => `    ${cmdlet.name.padEnd(24)}${cmdlet.synopsis}`),
    '',
  ].join('\n');
}
