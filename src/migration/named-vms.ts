/** The VMs that a record of a cmdlet names: by object, by id, by name or pattern. */
import { VmStorageError } from '../model/errors.js';
import { hasWildcard, named } from '../model/wildcard.js';
import type { CmdletContext, MigrationPorts, VmRecord, WireValue } from './ports.js';
import { readVm, type VmReference } from './request.js';

export function findOne(reference: VmReference, ports: MigrationPorts): VmRecord {
  const byId = reference.by === 'id' ? ports.registry.byId(reference.text) : undefined;
  const found = reference.by === 'id' ? (byId ? [byId] : []) : ports.registry.find(reference.text);
  if (found.length > 1) {
    throw new VmStorageError(
      'InvalidParameter',
      `${found.length} virtual machines have the name "${reference.text}". Give one of them with -VM.`,
      {
        target: reference.text,
      },
    );
  }
  const vm = found[0];
  if (!vm) throw notFound(reference);
  return vm;
}

export function notFound(reference: VmReference): VmStorageError {
  return new VmStorageError('ObjectNotFound', `Hyper-V was unable to find a virtual machine with ${reference.by} "${reference.text}".`, {
    target: reference.text,
  });
}

/** By id or literal name, else by PowerShell's pattern. */
export function vmsCalled(text: string, ports: MigrationPorts): readonly VmRecord[] {
  const exact = ports.registry.find(text);
  return exact.length > 0 ? exact : named(text, ports.registry.list(), (vm) => vm.configuration.name);
}

/** The VMs a record names; a literal name that is unknown is an error of its own and the others go on. */
export async function namedVms(context: CmdletContext, ports: MigrationPorts): Promise<readonly VmRecord[]> {
  const found: VmRecord[] = [];
  for (const given of listed(context.bound['VM'] ?? context.bound['Name'])) {
    const reference = readVm({ VM: given });
    const some =
      reference.by === 'id' ? [ports.registry.byId(reference.text)].filter((vm) => vm !== undefined) : vmsCalled(reference.text, ports);
    if (some.length === 0 && !(reference.by === 'name' && hasWildcard(reference.text))) await context.error(notFound(reference));
    found.push(...some);
  }
  return found;
}

export function listed(value: WireValue | undefined): readonly WireValue[] {
  if (value === undefined || value === null) return [];
  return Array.isArray(value) ? value : [value];
}
