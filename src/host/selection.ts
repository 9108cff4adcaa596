/** From what was bound to the machines that are meant: by object (its id), by id, by name with PowerShell's wildcards. */
import { VmStorageError } from '../model/errors.js';
import { hasWildcard, named } from '../model/wildcard.js';
import type { WireValue } from '../protocol/messages.js';
import type { CmdletContext, Registry, VmRecord } from './services.js';

/** How an unknown literal name is reported. Get-VM differs from all others, and scripts compare it. */
export type Unknown = 'InvalidParameter' | 'ObjectNotFound';

/**
 * The machines of one record. Each that is not found is one non-terminating error and the others are returned; a wildcard that
 * matches nothing is silent. `otherNames` name what the caller deals with itself.
 */
export async function selectMachines(
  context: CmdletContext,
  registry: Registry,
  unknown: Unknown = 'ObjectNotFound',
  otherNames: ReadonlySet<string> = new Set(),
): Promise<VmRecord[]> {
  await registry.recheck();
  const { bound } = context;
  const found: VmRecord[] = [];
  for (const object of list(bound['VM'])) {
    const id = typeof object === 'object' && object !== null && !Array.isArray(object) ? String(object['Id'] ?? '') : String(object);
    found.push(...(await byId(context, registry, id, unknown)));
  }
  for (const id of list(bound['Id'])) found.push(...(await byId(context, registry, String(id), unknown)));
  for (const value of list(bound['Name'] ?? bound['VMName'])) {
    const name = String(value);
    if (otherNames.has(name)) continue;
    const matching = named(name, registry.list(), (vm) => vm.configuration.name);
    if (matching.length === 0 && !hasWildcard(name)) {
      await context.error(
        new VmStorageError(unknown, `Hyper-V was unable to find a virtual machine with name "${name}".`, { target: name }),
      );
    }
    found.push(...matching);
  }
  return found;
}

async function byId(context: CmdletContext, registry: Registry, id: string, unknown: Unknown): Promise<VmRecord[]> {
  const vm = registry.byId(id);
  if (vm) return [vm];
  await context.error(new VmStorageError(unknown, `Hyper-V was unable to find a virtual machine with id "${id}".`, { target: id }));
  return [];
}

export function list(value: WireValue | undefined): WireValue[] {
  return value === undefined || value === null ? [] : Array.isArray(value) ? value : [value];
}
