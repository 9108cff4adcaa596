/** A value that is in force already, as a runbook spells it in PowerShell, arrives as what the host accepts. */
import { describe, expect, it } from 'vitest';
import { placementIn, type Cmdlet, type Parameter } from '../../cmdlets/define.js';
import { cmdlets } from '../../cmdlets/index.js';
import { refuseNotImplemented } from '../../cmdlets/refuse.js';
import { pwshOrUndefined } from '../support/pwsh.js';
import { requires } from '../support/requires.js';
import { scriptedShell } from '../support/scripted-shell.js';

const mandatory: { readonly [name: string]: string } = {
  Name: 'web01',
  VMName: 'web01',
  Path: '/x.vhdx',
  DestinationStoragePath: '/x',
  SizeBytes: '1GB',
  Fixed: '',
};

function spelled(value: string | number | boolean, { type }: Parameter): string {
  if (type.kind === 'switch') return '';
  return typeof value === 'boolean' ? ` $${value}` : ` '${value}'`;
}

/** With what the first of its sets asks for besides. */
function line(cmdlet: Cmdlet, name: string, parameter: Parameter, value: string | number | boolean): string {
  const set = cmdlet.sets.find((one) => placementIn(parameter, one) !== undefined)!;
  const others = Object.entries(cmdlet.parameters).flatMap(([other, { sets }]) =>
    (sets[set] ?? sets['*'])?.mandatory && other !== name ? [` -${other} ${mandatory[other]}`.trimEnd()] : [],
  );
  return `${cmdlet.name}${others.join('')} -${name}${spelled(value, parameter)}`;
}

const lines = (Object.values(cmdlets) as unknown as Cmdlet[]).flatMap((cmdlet) =>
  Object.entries(cmdlet.parameters).flatMap(([name, parameter]) =>
    parameter.inForce.map((value) => [line(cmdlet, name, parameter, value), cmdlet, name] as const),
  ),
);

describe.skipIf(!requires('PowerShell 7.6', await pwshOrUndefined()))('in force', () => {
  const shell = scriptedShell();

  it('are the four that runbooks were refused for', () => {
    expect(lines.map(([text]) => text)).toEqual(
      expect.arrayContaining([
        'Set-VM -Name web01 -AutomaticCheckpointsEnabled $false',
        "Set-VM -Name web01 -CheckpointType 'Disabled'",
        'Set-VMHost -NumaSpanningEnabled $true',
        "Add-VMHardDiskDrive -VMName web01 -ResourcePoolName 'Primordial'",
      ]),
    );
  });

  it.each(lines)('%s', async (text, cmdlet, name) => {
    const { errors } = await shell.session.invoke(text);
    expect(errors).toEqual([]);
    const { bound } = shell.host.heard[0]!;
    expect(bound).toHaveProperty(name);
    expect(() => refuseNotImplemented(cmdlet, bound)).not.toThrow();
  });
});
