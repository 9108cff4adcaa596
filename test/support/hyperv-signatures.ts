/** Reads the two records of Hyper-V's signatures in test/golden/hyperv. */
import { readFileSync } from 'node:fs';
import { everySet, type Placement, type Placements } from '../../cmdlets/define.js';

const folder = new URL('../golden/hyperv/', import.meta.url);

export interface ReflectedParameter {
  readonly type: string;
  readonly aliases: string[];
  readonly sets: Placements;
  readonly validation: string[];
}

export interface ReflectedCmdlet {
  readonly defaultSet: string;
  readonly shouldProcess: boolean;
  readonly impact: string | undefined;
  readonly output: string;
  readonly parameters: { readonly [name: string]: ReflectedParameter };
}

function flags(text: string): Placement {
  const position = /P(\d+)/.exec(text)?.[1];
  return {
    ...(text.includes('M') ? { mandatory: true as const } : {}),
    ...(position === undefined ? {} : { position: Number(position) }),
    ...(text.includes('V') ? { byValue: true as const } : {}),
    ...(text.includes('N') ? { byName: true as const } : {}),
  };
}

/** `Name(MP0V), VMObject` or `*(P3)` or nothing. */
function placements(column: string): Placements {
  if (column === '') return { [everySet]: {} };
  const sets: { [set: string]: Placement } = {};
  for (const match of column.matchAll(/(\*|[A-Za-z][A-Za-z ]*)(?:\(([A-Z0-9]+)\))?(?:, |$)/g)) sets[match[1]!] = flags(match[2] ?? '');
  return sets;
}

export function reflectedSignatures(): { readonly [cmdlet: string]: ReflectedCmdlet } {
  const text = readFileSync(new URL('reflected-signatures.md', folder), 'utf8');
  const result: { [cmdlet: string]: ReflectedCmdlet } = {};
  for (const section of text.split(/^## /m).slice(1)) {
    const [name, head] = section.split('\n');
    const parameters: { [name: string]: ReflectedParameter } = {};
    for (const line of section.split('\n')) {
      const row = line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim());
      if (row.length !== 5 || row[0] === 'parameter' || row[0]!.startsWith('-')) continue;
      const [parameter, type, aliases, sets, validation] = row;
      parameters[parameter!] = {
        type: type!,
        aliases: aliases === '' ? [] : aliases!.split(','),
        sets: placements(sets!),
        validation: validation === '' ? [] : validation!.match(/\w+\([^)]*\)/g)!,
      };
    }
    result[name!] = {
      defaultSet: /DefaultParameterSetName='([^']*)'/.exec(head!)?.[1] ?? '',
      shouldProcess: /SupportsShouldProcess=\$true/.test(head!),
      impact: /ConfirmImpact='(\w+)'/.exec(head!)?.[1],
      output: /output: (.*)$/.exec(head!)![1]!,
      parameters,
    };
  }
  return result;
}

export interface DocumentedCmdlet {
  readonly defaultSet: string;
  readonly sets: { readonly [set: string]: readonly string[] };
  readonly parameters: {
    readonly [name: string]: {
      readonly type: string;
      readonly aliases?: readonly string[];
      readonly position: string;
      readonly pipeline: string;
      readonly accepted?: readonly string[];
    };
  };
}

export function documentedCmdlets(): { readonly [cmdlet: string]: DocumentedCmdlet } {
  const { source: _source, ...rest } = JSON.parse(readFileSync(new URL('documented-cmdlets.json', folder), 'utf8')) as {
    source: string;
  } & { [cmdlet: string]: DocumentedCmdlet };
  return rest as { [cmdlet: string]: DocumentedCmdlet };
}
