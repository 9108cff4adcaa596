/** The subscription: all machines, moves, places and the host's settings, then what changes of them (src/protocol/subscription.ts). */
import { ChangedKeys } from '../../jobs/changed-keys.js';
import type { WireObject } from '../../protocol/messages.js';
import { asWire, WATCH, type WatchedKind } from '../../protocol/subscription.js';
import type { Changes } from '../changes.js';
import type { Places } from '../places.js';
import { publishHost, publishMachine } from '../publish.js';
import type { CmdletContext, CmdletMethods, HostServices, Migration, VmRecord } from '../services.js';

/** The host is one. */
const HOST_ID = 'host';

export function watchHost(services: HostServices, migration: Migration, changes: Changes, places: Places): CmdletMethods {
  const { registry, settings } = services;
  /** What was found wrong with the files of each machine, with the configuration that named them. */
  const looked = new Map<string, { readonly configuration: VmRecord['configuration']; readonly trouble: readonly string[] }>();

  /** Looks again only where a machine has other files than before: a look is a process, and figures change every second. */
  async function lookAt(machines: readonly VmRecord[]): Promise<void> {
    const trouble = machines.length === 0 ? new Map<string, readonly string[]>() : await services.fileTrouble(machines);
    for (const { configuration } of machines) looked.set(configuration.id, { configuration, trouble: trouble.get(configuration.id) ?? [] });
  }

  async function machineOf(id: string): Promise<WireObject | null> {
    const vm = registry.byId(id);
    if (!vm) {
      looked.delete(id);
      return null;
    }
    if (looked.get(id)?.configuration !== vm.configuration) await lookAt([vm]);
    return publishMachine(vm, services, migration, looked.get(id)?.trouble);
  }

  const valueOf = async (kind: WatchedKind, id: string): Promise<WireObject | null> => {
    switch (kind) {
      case 'machine':
        return machineOf(id);
      case 'fault': {
        const fault = registry.faults().find(({ vmId }) => vmId === id);
        return fault ? asWire({ $t: 'Fault', ...fault }) : null;
      }
      case 'move':
        return migration.shown(id);
      case 'place': {
        const place = places.get(id);
        return place && asWire(place);
      }
      case 'host':
        return publishHost(settings.current);
    }
  };

  async function tell(context: CmdletContext, kind: WatchedKind, id: string): Promise<void> {
    await context.output(asWire({ $t: 'Change', kind, id, value: await valueOf(kind, id) }));
  }

  async function tellEverything(context: CmdletContext): Promise<void> {
    await context.output(asWire({ $t: 'Bracket', at: 'begin' }));
    await registry.recheck();
    await lookAt(registry.list());
    await tell(context, 'host', HOST_ID);
    for (const vm of registry.list()) await tell(context, 'machine', vm.configuration.id);
    for (const { vmId } of registry.faults()) await tell(context, 'fault', vmId);
    for (const id of migration.shownIds()) await tell(context, 'move', id);
    for (const { path } of await places.all()) await tell(context, 'place', path);
    await context.output(asWire({ $t: 'Bracket', at: 'current' }));
  }

  return {
    [WATCH]: async (context) => {
      const changed = new ChangedKeys();
      const note = (kind: WatchedKind, id: string): void => changed.note(`${kind} ${id}`);
      const unsubscribe = [
        changes.subscribe((kind, id) => {
          note(kind, id);
          // A configuration that is right again, or forgotten, is no fault any more.
          if (kind === 'machine' && faults.has(id)) note('fault', id);
        }),
        places.subscribe((path) => note('place', path)),
        settings.subscribe(() => note('host', HOST_ID)),
      ];
      const faults = new Set(registry.faults().map(({ vmId }) => vmId));
      const over = AbortSignal.any([context.signal, context.stopRequested]);
      try {
        await tellEverything(context);
        for (let next = await changed.next(over); next; next = await changed.next(over)) {
          if (next === 'everything') await tellEverything(context);
          else await tell(context, ...parted(next.key));
        }
      } finally {
        for (const end of unsubscribe) end();
      }
    },
  };
}

function parted(key: string): [WatchedKind, string] {
  const at = key.indexOf(' ');
  return [key.slice(0, at) as WatchedKind, key.slice(at + 1)];
}
