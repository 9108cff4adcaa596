/**
 * One move as the wizard asks for it. From an order come the parameters that the host is given and the line that a person may run instead; both
 * are made here, so that they say the same.
 */
import { powershellText } from '../../../cmdlets/shim/quote.js';

export interface DiskOrder {
  readonly source: string;
  readonly target: string;
}

export type OrderDestination =
  | { readonly kind: 'single'; readonly folder: string }
  | {
      readonly kind: 'multiple';
      readonly virtualMachinePath: string | null;
      readonly snapshotFilePath: string | null;
      readonly smartPagingFilePath: string | null;
      readonly disks: readonly DiskOrder[];
    };

export interface MoveOrder {
  readonly vmId: string;
  readonly vmName: string;
  /** Whether the name means this machine alone: names need not be unique. */
  readonly nameIsUnique: boolean;
  readonly destination: OrderDestination;
  readonly retainSources: boolean;
  readonly requireFullSize: boolean;
}

export type Bound = { [name: string]: unknown };

/** For Move-VMStorage at the host: by id, whatever the machine is called by then. */
export function boundOf(order: MoveOrder): { readonly parameterSet: string; readonly bound: Bound } {
  const { destination } = order;
  const parameterSet = destination.kind === 'single' ? 'VMSingleDestination' : 'VMMultipleDestinations';
  return { parameterSet, bound: { VM: { $t: 'VirtualMachine', Id: order.vmId }, ...parametersOf(order) } };
}

/** Everything but the machine, in the order in which the line has it. */
function parametersOf({ destination, retainSources, requireFullSize }: MoveOrder): Bound {
  const where: Bound =
    destination.kind === 'single'
      ? { DestinationStoragePath: destination.folder }
      : {
          ...given('VirtualMachinePath', destination.virtualMachinePath),
          ...given('SnapshotFilePath', destination.snapshotFilePath),
          ...given('SmartPagingFilePath', destination.smartPagingFilePath),
          ...(destination.disks.length === 0
            ? {}
            : { Vhds: destination.disks.map(({ source, target }) => ({ SourceFilePath: source, DestinationFilePath: target })) }),
        };
  return { ...where, ...(retainSources ? { RetainVhdCopiesOnSource: true } : {}), ...(requireFullSize ? { RequireFullSize: true } : {}) };
}

const given = (name: string, value: string | null): Bound => (value === null ? {} : { [name]: value });

/** As a person types it into PowerShell. */
export function lineOf(order: MoveOrder): string {
  const who = order.nameIsUnique
    ? `Move-VMStorage -VMName ${powershellText(order.vmName)}`
    : `Get-VM -Id ${powershellText(order.vmId)} | Move-VMStorage`;
  const words = Object.entries(parametersOf(order)).map(([name, value]) => (value === true ? `-${name}` : `-${name} ${valueText(value)}`));
  return [who, ...words].join(' ');
}

function valueText(value: unknown): string {
  if (typeof value === 'string') return powershellText(value);
  return (value as readonly { readonly [key: string]: string }[])
    .map(
      (table) =>
        `@{ ${Object.entries(table)
          .map(([key, text]) => `${key} = ${powershellText(text)}`)
          .join('; ')} }`,
    )
    .join(', ');
}
