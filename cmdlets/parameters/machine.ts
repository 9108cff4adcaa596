/** How a cmdlet is told which VM it is about: a name or an object, at position 0 and from the pipeline. */
import { parameter, placed, t, type Placement } from '../define.js';
import { VirtualMachine } from '../types/virtual-machine.js';

/** Mandatory, first, from the pipeline by value. */
export const subject = { mandatory: true, position: 0, byValue: true } as const satisfies Placement;

export const names = (...sets: readonly string[]) =>
  parameter(t.array(t.string), {
    help: 'Names of the virtual machines; wildcards are allowed.',
    sets: placed(subject, ...sets),
    aliases: ['VMName'],
    validate: ['notNullOrEmpty'],
    complete: 'vmName',
    wildcards: true,
  });

export const vmNames = (...sets: readonly string[]) =>
  parameter(t.array(t.string), {
    help: 'Names of the virtual machines; wildcards are allowed.',
    sets: placed(subject, ...sets),
    validate: ['notNullOrEmpty'],
    complete: 'vmName',
    wildcards: true,
  });

export const machines = (...sets: readonly string[]) =>
  parameter(t.array(t.key(VirtualMachine)), {
    help: 'The virtual machines, as Get-VM returns them.',
    sets: placed(subject, ...sets),
    validate: ['notNullOrEmpty'],
  });
