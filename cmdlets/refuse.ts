/** What the host refuses before a cmdlet does anything: parameters, and values of parameters, that are there and do nothing yet. */
import type { WireValue } from '../src/protocol/messages.js';
import { VmStorageError } from '../src/model/errors.js';
import type { Cmdlet, Parameter } from './define.js';

/** Throws NotImplemented for the first bound value that is not implemented. */
export function refuseNotImplemented(cmdlet: Cmdlet, bound: { readonly [name: string]: WireValue }): void {
  for (const [name, value] of Object.entries(bound)) {
    const parameter = Object.hasOwn(cmdlet.parameters, name) ? cmdlet.parameters[name] : undefined;
    if (parameter === undefined) {
      throw new VmStorageError(
        'InvalidParameter',
        `${cmdlet.name} has no parameter -${name}. Client and host may be of different versions.`,
        { target: name },
      );
    }
    const refused = parameter.notImplemented ? whole(parameter, value) : single(parameter, value);
    if (refused !== null) throw new VmStorageError('NotImplemented', `${cmdlet.name} -${name}${refused}`, { target: name });
  }
}

/** A switch given as false was not given, and a value that is in force already changes nothing. */
function whole({ type, inForce }: Parameter, value: WireValue): string | null {
  if (type.kind === 'switch' && value === false) return null;
  if (inForce.some((one) => String(one).toLowerCase() === String(value).toLowerCase())) return null;
  if (inForce.length === 0) return ' is not implemented. Nothing was changed; leave the parameter out.';
  return ` '${String(value)}' is not implemented: it is always ${inForce.join(' or ')}. Nothing was changed; leave the parameter out.`;
}

function single({ notYet }: Parameter, value: WireValue): string | null {
  if (!notYet.some((one) => one === value)) return null;
  return ` '${String(value)}' is not implemented. Nothing was changed; give another value, or leave the parameter out.`;
}
