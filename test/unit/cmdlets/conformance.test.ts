/**
 * Every Hyper-V cmdlet of ours has Hyper-V's signature: each parameter's type, sets, flags, aliases and validation, against what
 * reflection found in the real module, and what the newer documentation adds. Extensions are listed by name here, so that a new
 * one is noticed.
 */
import { describe, expect, it } from 'vitest';
import { placementIn, type Cmdlet, type Parameter, type Validation, type ValueType } from '../../../cmdlets/define.js';
import { cmdlets } from '../../../cmdlets/index.js';
import { documentedCmdlets, reflectedSignatures } from '../../support/hyperv-signatures.js';

const ours = cmdlets as unknown as { readonly [name: string]: Cmdlet };
const reflected = reflectedSignatures();
const documented = documentedCmdlets();

/** Ours alone. */
const extensions: { readonly [cmdlet: string]: readonly string[] } = {
  'New-VM': ['KernelPath', 'InitialRamdiskPath', 'KernelArguments', 'AllowForeignContent'],
  'Add-VMHardDiskDrive': ['AllowForeignContent'],
  'Move-VMStorage': ['RequireFullSize', 'PassPlan'],
  'Set-VM': ['KernelPath', 'InitialRamdiskPath', 'KernelArguments'],
};
const ownCmdlets = ['Get-VMStorageMove', 'Resolve-VMStorageMove', 'Stop-VMStorageMove'];
/** Newer than the reflected module: only documented. */
const newerThanReflection: { readonly [cmdlet: string]: readonly string[] } = {
  'New-VM': ['SourceGuestStatePath', 'GuestStateIsolationType'],
};
/** Reflected, but left out of the documentation. */
const undocumented: { readonly [cmdlet: string]: readonly string[] } = {
  'Set-VM': ['BatteryPassthroughEnabled', 'EnhancedSessionTransportType'],
  'New-VHD': ['AddressAbstractionType', 'DataAlignmentBytes'],
};

const names: { readonly [kind: string]: string } = {
  string: 'string',
  path: 'string',
  bool: 'bool',
  switch: 'switch',
  int16: 'int16',
  int32: 'int',
  int64: 'long',
  uint32: 'uint32',
  uint64: 'uint64',
  guid: 'guid',
  timespan: 'timespan',
  version: 'version',
  hashtable: 'hashtable',
  credential: 'pscredential',
  cimSession: 'CimSession',
  cimInstance: 'ciminstance',
  psobject: 'psobject',
};

function reflectedName(type: ValueType): string {
  const named = type.enumType ?? type.objectType;
  const element = named === undefined ? names[type.kind]! : `${named.namespace}.${named.name}`;
  if (type.array) return `${element}[]`;
  return type.nullable ? `System.Nullable[${element}]` : element;
}

function validationName(rule: Validation): string {
  if (rule === 'notNull') return 'ValidateNotNull()';
  if (rule === 'notNullOrEmpty') return 'ValidateNotNullOrEmpty()';
  if ('set' in rule) return `ValidateSet(${rule.set.map((one) => `'${one}'`).join(',')})`;
  return `ValidateRange(${rule.range[0]}, ${rule.range[1]})`;
}

function describeOurs(parameter: Parameter) {
  return {
    type: reflectedName(parameter.type),
    aliases: [...parameter.aliases],
    sets: parameter.sets,
    validation: parameter.validate.map(validationName),
  };
}

describe('every cmdlet is Hyper-V’s or declared as ours', () => {
  it('has the cmdlets of the list and our own, and no other', () => {
    expect(Object.keys(ours).sort()).toEqual([...Object.keys(reflected), ...ownCmdlets].sort());
    for (const [name, cmdlet] of Object.entries(ours)) {
      expect(cmdlet.name).toBe(name);
      expect(cmdlet.extension).toBe(ownCmdlets.includes(name));
    }
  });
});

describe.each(Object.keys(reflected))('%s', (name) => {
  const cmdlet = ours[name]!;
  const hyperV = reflected[name]!;
  const own = Object.entries(cmdlet.parameters)
    .filter(([, parameter]) => parameter.extension)
    .map(([parameter]) => parameter);

  it('has the default set, ShouldProcess and output of Hyper-V', () => {
    expect(cmdlet.defaultSet).toBe(hyperV.defaultSet);
    expect(cmdlet.changes).toBe(hyperV.shouldProcess);
    expect(hyperV.impact ?? 'Medium').toBe('Medium');
    expect(cmdlet.outputs.map((type) => `${type.namespace}.${type.name}`).join() || '-').toBe(hyperV.output);
  });

  it('has exactly the parameters of Hyper-V, and the extensions listed here', () => {
    expect(own).toEqual(extensions[name] ?? []);
    const theirs = [...Object.keys(hyperV.parameters), ...(newerThanReflection[name] ?? [])];
    expect(
      Object.keys(cmdlet.parameters)
        .filter((parameter) => !own.includes(parameter))
        .sort(),
    ).toEqual(theirs.sort());
  });

  it.each(Object.keys(hyperV.parameters))('-%s has the type, sets, flags, aliases and validation that reflection found', (parameter) => {
    expect(describeOurs(cmdlet.parameters[parameter]!)).toEqual(hyperV.parameters[parameter]);
  });

  it('has the sets and parameters of the documentation', () => {
    const docs = documented[name]!;
    expect([...cmdlet.sets].sort()).toEqual(Object.keys(docs.sets).sort());
    for (const [set, members] of Object.entries(docs.sets)) {
      const theirs = members.map((member) => member.replace('!', '')).filter((member) => member !== 'WhatIf' && member !== 'Confirm');
      const unnamed = (undocumented[name] ?? []).filter((parameter) => placementIn(cmdlet.parameters[parameter]!, set) !== undefined);
      const here = Object.entries(cmdlet.parameters).filter(
        ([parameter, definition]) => !own.includes(parameter) && placementIn(definition, set) !== undefined,
      );
      expect(here.map(([parameter]) => parameter).sort(), set).toEqual([...theirs, ...unnamed].sort());
    }
  });

  it('has the positions, pipeline input and accepted values of the documentation', () => {
    for (const [parameter, docs] of Object.entries(documented[name]!.parameters)) {
      const definition = cmdlet.parameters[parameter]!;
      const places = Object.values(definition.sets);
      // The documentation has one line for all sets; it must be true of one of them.
      expect(
        places.some((place) => String(place.position ?? 'Named') === docs.position),
        `${parameter} position`,
      ).toBe(true);
      expect(
        places.some((place) => place.byValue === true),
        `${parameter} by value`,
      ).toBe(docs.pipeline.includes('ByValue'));
      expect(
        places.some((place) => place.byName === true),
        `${parameter} by name`,
      ).toBe(docs.pipeline.includes('ByPropertyName'));
      expect([...definition.aliases].sort(), `${parameter} aliases`).toEqual([...(docs.aliases ?? [])].sort());
      if (docs.accepted && definition.type.enumType) {
        for (const value of docs.accepted) expect(Object.keys(definition.type.enumType.values), parameter).toContain(value);
      }
    }
  });
});

describe('the definitions are sound', () => {
  it.each(Object.values(ours).map((cmdlet) => [cmdlet.name, cmdlet] as const))('%s', (_, cmdlet) => {
    expect(cmdlet.examples.length).toBeGreaterThanOrEqual(2);
    for (const text of [cmdlet.synopsis, cmdlet.description, ...cmdlet.examples.map((one) => one.remarks)]) expect(text).toMatch(/\.$/);
    for (const [name, parameter] of Object.entries(cmdlet.parameters)) {
      expect(name).not.toMatch(/^(WhatIf|Confirm|Verbose|Debug|ErrorAction|WarningAction|OutVariable|Json|Help)$/i);
      expect(parameter.help, name).toMatch(/\.$/);
      const isRefused = parameter.notImplemented && parameter.inForce.length === 0;
      expect(/Not implemented/.test(parameter.help), `${name} says that it is not implemented`).toBe(isRefused);
      if (parameter.inForce.length > 0) expect(parameter.help, name).toMatch(/which is in force|It is so in any case/);
    }
    // Get-VMHost takes both -ComputerName and -Credential by value, as Hyper-V's does: their types keep them apart.
    for (const set of cmdlet.sets) {
      const places = Object.values(cmdlet.parameters).flatMap((parameter) => placementIn(parameter, set) ?? []);
      const positions = places.flatMap((place) => place.position ?? []).sort((a, b) => a - b);
      expect(new Set(positions).size, `${set}: positions are unique`).toBe(positions.length);
    }
    if ('AsJob' in cmdlet.parameters) expect(cmdlet.changes, 'a job needs a confirmation before it').toBe(true);
  });
});
