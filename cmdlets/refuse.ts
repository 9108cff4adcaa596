/** What the host refuses before a cmdlet does anything: parameters that are there and do nothing yet. */
import type { WireValue } from '../src/protocol/messages.js';
import { VmStorageError } from '../src/model/errors.js';
import type { Cmdlet } from './define.js';

/** Throws NotImplemented for the first bound parameter that is not implemented. A switch given as false was not given. */
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
    if (parameter.notImplemented && !(parameter.type.kind === 'switch' && value === false)) {
      throw new VmStorageError(
        'NotImplemented',
        `${cmdlet.name} -${name} is not implemented. Nothing was changed; leave the parameter out.`,
        { target: name },
      );
    }
  }
}
