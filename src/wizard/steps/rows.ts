/** The table of a move: one row for each thing that gets a location, with the location that is preselected for it. */
import { isPassThrough, join, leafOf, placeOf, type MachineFacts, type PlaceFacts } from './facts.js';

export type MoveOption = 'single' | 'different' | 'disksOnly';
export type ItemKind = 'All' | 'VirtualHardDisk' | 'Configuration' | 'Checkpoints' | 'SmartPaging';

export interface Row {
  readonly key: string;
  readonly vmId: string;
  readonly vmName: string;
  readonly kind: ItemKind;
  /** File of a disk, folder of everything else. */
  readonly source: string;
  /** What is not ticked stays where it is. */
  readonly isChosen: boolean;
  /** The folder it goes to. */
  readonly folder: string;
}

export function rowsFor(option: MoveOption, machines: readonly MachineFacts[], places: readonly PlaceFacts[]): readonly Row[] {
  return machines.flatMap((machine) => {
    const folder = suggestedFolder(machine, machines, places);
    const row = (kind: ItemKind, source: string, at = ''): Row => ({
      key: `${machine.Id} ${kind}${at}`,
      vmId: machine.Id,
      vmName: machine.Name,
      kind,
      source,
      isChosen: true,
      folder,
    });
    if (option === 'single') return [row('All', machine.Path)];
    const disks = machine.HardDrives.flatMap(({ Path }, at) => (isPassThrough(Path) ? [] : [row('VirtualHardDisk', Path, ` ${at}`)]));
    if (option === 'disksOnly') return disks;
    return [
      ...disks,
      row('Configuration', machine.Path),
      row('Checkpoints', machine.SnapshotFileLocation),
      row('SmartPaging', machine.SmartPagingFilePath),
    ];
  });
}

/** Several machines get a folder each: disks of the same name would meet in one. */
export function suggestedFolder(machine: MachineFacts, machines: readonly MachineFacts[], places: readonly PlaceFacts[]): string {
  const place = suggestedPlace(machine, places);
  return place === null ? '' : folderIn(place.path, machine, machines);
}

export function folderIn(place: string, machine: { readonly Name: string }, machines: readonly unknown[]): string {
  return machines.length === 1 ? place : join(place, machine.Name.replaceAll('/', '_'));
}

/** The place with most room that the machine's first disk is not in; none that is read-only or does not answer. */
export function suggestedPlace<P extends PlaceFacts>(machine: MachineFacts, places: readonly P[]): P | null {
  const here = placeOf(machine.HardDrives[0]?.Path ?? machine.Path, places);
  const others = places.filter((place) => place !== here && !place.isReadOnly && place.trouble === null);
  return others.reduce<P | null>((best, place) => (best === null || BigInt(place.bytesFree) > BigInt(best.bytesFree) ? place : best), null);
}

/** What the row's source becomes. */
export function targetOf(row: Row): string {
  return row.kind === 'VirtualHardDisk' ? join(row.folder, leafOf(row.source)) : row.folder;
}
