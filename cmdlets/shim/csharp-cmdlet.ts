/** The class of a cmdlet: attributes that make PowerShell bind as Hyper-V does, and the writing of what was bound. Nothing else. */
import { everySet, verbClasses, type Cmdlet, type Parameter, type Placement, type Validation } from '../define.js';
import { fullName, parameterType } from './csharp-types.js';
import { csharpText } from './quote.js';

function parameterAttribute(set: string, placement: Placement): string {
  const settings = [
    ...(set === everySet ? [] : [`ParameterSetName = ${csharpText(set)}`]),
    ...(placement.mandatory ? ['Mandatory = true'] : []),
    ...(placement.position === undefined ? [] : [`Position = ${placement.position}`]),
    ...(placement.byValue ? ['ValueFromPipeline = true'] : []),
    ...(placement.byName ? ['ValueFromPipelineByPropertyName = true'] : []),
  ];
  return settings.length === 0 ? '[Parameter]' : `[Parameter(${settings.join(', ')})]`;
}

function validationAttribute(validation: Validation): string {
  if (validation === 'notNull') return '[ValidateNotNull]';
  if (validation === 'notNullOrEmpty') return '[ValidateNotNullOrEmpty]';
  if ('set' in validation) return `[ValidateSet(${validation.set.map(csharpText).join(', ')})]`;
  return `[ValidateRange(${validation.range[0]}, ${validation.range[1]})]`;
}

function attributes(parameter: Parameter): string[] {
  const takesText = parameter.type.kind === 'string';
  const refusesObjects = takesText || parameter.type.kind === 'path';
  const completer =
    parameter.complete === 'vmName'
      ? ['[HostCompleter("vmName")]']
      : parameter.type.kind === 'path'
        ? ['[HostCompleter("path")]']
        : parameter.complete === 'nothing' && takesText
          ? ['[HostCompleter("nothing")]']
          : [];
  return [
    ...Object.entries(parameter.sets).map(([set, placement]) => parameterAttribute(set, placement)),
    ...(parameter.aliases.length === 0 ? [] : [`[Alias(${parameter.aliases.map(csharpText).join(', ')})]`]),
    ...parameter.validate.map(validationAttribute),
    ...(parameter.type.typeName === undefined ? [] : [`[PSTypeName(${csharpText(parameter.type.typeName)})]`]),
    ...(refusesObjects ? ['[TextArgument]'] : []),
    // PowerShell makes a credential without a name of anything.
    ...(parameter.type.kind === 'credential' ? ['[TextArgument(Or = typeof(PSCredential))]'] : []),
    ...(parameter.wildcards ? ['[SupportsWildcards]'] : []),
    ...completer,
  ];
}

const writers: { readonly [kind: string]: string } = {
  string: 'String',
  path: 'Path',
  bool: 'Bool',
  switch: 'Switch',
  int16: 'Number',
  int32: 'Number',
  uint32: 'Number',
  int64: 'Int64',
  uint64: 'UInt64',
  guid: 'Guid',
  timespan: 'TimeSpan',
  enum: 'Enum',
  object: 'Object',
  credential: 'Credential',
  hashtable: 'Hashtable',
  version: 'Text',
  cimSession: 'Text',
  cimInstance: 'Text',
  psobject: 'Text',
};

function write(name: string, { type }: Parameter): string {
  const writer = type.bareName ? 'PathOrFileName' : writers[type.kind];
  if (writer === undefined) throw new Error(`no writer of ${type.kind}`);
  const keys = type.pathKeys ? `, [${type.pathKeys.map(csharpText).join(', ')}]` : '';
  return `        bound.${writer}${type.array ? 's' : ''}(${csharpText(name)}, ${name}${keys});`;
}

export function renderCmdlet(cmdlet: Cmdlet): string {
  const shouldProcess = cmdlet.changes ? ', SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.Medium' : '';
  const outputs = cmdlet.outputs.map((type) => `[OutputType(typeof(${fullName(type)}))]`);
  return [
    `// Generated from cmdlets/${cmdlet.name.toLowerCase()}.ts; do not edit.`,
    '#nullable enable',
    'using System.Management.Automation;',
    'using VMStorage.PowerShell;',
    '',
    `namespace ${cmdlet.namespace};`,
    '',
    `/// <summary>${cmdlet.synopsis}</summary>`,
    `[Cmdlet(${verbClasses[cmdlet.verb]}.${cmdlet.verb}, ${csharpText(cmdlet.noun)}, DefaultParameterSetName = ${csharpText(cmdlet.defaultSet)}${shouldProcess})]`,
    ...outputs,
    `public sealed class ${cmdlet.className} : HostCmdlet`,
    '{',
    ...Object.entries(cmdlet.parameters).flatMap(([name, parameter]) => [
      `    /// <summary>${parameter.help.replace(/&/g, '&amp;').replace(/</g, '&lt;')}</summary>`,
      ...attributes(parameter).map((line) => `    ${line}`),
      `    public ${parameterType(parameter.type)} ${name} { get; set; }`,
      '',
    ]),
    `    private protected override string WireName => ${csharpText(cmdlet.name)};`,
    ...(cmdlet.changes ? ['    private protected override bool Changes => true;'] : []),
    ...('AsJob' in cmdlet.parameters ? ['    private protected override bool RunAsJob => AsJob;'] : []),
    '',
    '    private protected override void WriteBound(BoundWriter bound)',
    '    {',
    ...Object.entries(cmdlet.parameters).map(([name, parameter]) => write(name, parameter)),
    '    }',
    '}',
    '',
  ].join('\n');
}
