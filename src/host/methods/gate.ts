/**
 * What every cmdlet passes before its handler, in this order, whoever asks: what its definition does not implement, another computer, and
 * Windows paths are refused and nothing is changed; a name that may be a list becomes what it is here.
 */
import type { Cmdlet } from '../../../cmdlets/define.js';
import { findCmdlet } from '../../../cmdlets/index.js';
import { refuseNotImplemented } from '../../../cmdlets/refuse.js';
import { refuseWindowsPath } from '../../model/windows-path.js';
import type { WireValue } from '../../protocol/messages.js';
import { isNameOrList } from '../../protocol/name-or-list.js';
import { refuseRemote } from '../computer.js';
import { list } from '../selection.js';
import type { CmdletHandler, CmdletMethods, Registry } from '../services.js';

type Bound = { readonly [name: string]: WireValue };

export function gated(methods: CmdletMethods, registry: Registry): CmdletMethods {
  return Object.fromEntries(
    Object.entries(methods).map(([name, handler]): [string, CmdletHandler] => {
      const cmdlet = findCmdlet(name);
      if (!cmdlet) return [name, handler];
      return [
        name,
        async (context) => {
          refuseNotImplemented(cmdlet, context.bound);
          refuseRemote(context.bound);
          refuseWindowsPaths(cmdlet, context.bound);
          await handler({ ...context, bound: await withNames(cmdlet, context.bound, registry) });
        },
      ];
    }),
  );
}

/** Of every parameter that takes a path, and of every key of a table that holds one. */
function refuseWindowsPaths(cmdlet: Cmdlet, bound: Bound): void {
  for (const [name, value] of Object.entries(bound)) {
    const { kind, pathKeys = [] } = cmdlet.parameters[name]!.type;
    for (const one of list(value)) {
      if (kind === 'path' && typeof one === 'string') refuseWindowsPath(one, `-${name}`);
      if (kind !== 'hashtable' || typeof one !== 'object' || one === null) continue;
      for (const [key, text] of Object.entries(one)) {
        if (typeof text === 'string' && pathKeys.some((each) => each.toLowerCase() === key.toLowerCase()))
          refuseWindowsPath(text, `-${name} ${key}`);
      }
    }
  }
}

/** The machine of that very name comes before a list of names. */
async function withNames(cmdlet: Cmdlet, bound: Bound, registry: Registry): Promise<Bound> {
  const given = Object.entries(bound).filter(
    ([name, value]) => cmdlet.parameters[name]!.complete === 'vmName' && list(value).some(isNameOrList),
  );
  if (given.length === 0) return bound;
  await registry.recheck();
  const isName = (text: string): boolean => registry.list().some((vm) => vm.configuration.name.toLowerCase() === text.toLowerCase());
  const named = given.map(([name, value]): [string, WireValue] => [
    name,
    list(value).flatMap((one) => (!isNameOrList(one) ? [one] : isName(one.text) ? [one.text] : [...one.list])),
  ]);
  return { ...bound, ...Object.fromEntries(named) };
}
