/** An ordinary user who administers an instance's host: by its group (src/host/roles.ts), and without any other right of root's. */
import { chmodSync } from 'node:fs';
import { findCmdlet } from '../../cmdlets/index.js';
import type { WireObject, WireValue } from '../../src/protocol/messages.js';
import { askAs, type AsUser } from './as-user.js';
import type { Instance } from './instance.js';
import type { OrdinaryUser } from './ordinary-user.js';

/** For `Instance.start`: before the host starts. */
export function administeredBy(instance: Instance, user: OrdinaryUser): void {
  instance.environment['VMSTORAGE_ADMINISTRATORS'] = user.name;
  chmodSync(instance.folder, 0o711);
}

type Bound = { readonly [name: string]: WireValue };

/** What a cmdlet put out for that user; its first error is thrown. */
export async function runAs(instance: Instance, user: AsUser, cmdlet: string, bound: Bound, set?: string): Promise<WireObject[]> {
  const { output, errors } = await askAs(user, instance.home, cmdlet, bound, { set: set ?? findCmdlet(cmdlet)!.defaultSet });
  if (errors[0]) throw Object.assign(new Error(errors[0].message), { code: errors[0].code });
  return output;
}
