/** What the steps know of the host: the objects of the subscription, as far as they are looked at here. */
export interface DriveFacts {
  readonly Name: string;
  readonly Path: string;
}

export interface MachineFacts {
  readonly Id: string;
  readonly Name: string;
  readonly State: string;
  readonly Status: string;
  readonly OperationalStatus: readonly string[];
  readonly Path: string;
  readonly SnapshotFileLocation: string;
  readonly SmartPagingFilePath: string;
  readonly HardDrives: readonly DriveFacts[];
}

export interface PlaceFacts {
  readonly path: string;
  readonly bytesFree: string;
  readonly isReadOnly: boolean;
  readonly trouble: string | null;
}

/** The place a path is in: the longest mount point above it. */
export function placeOf<P extends { readonly path: string }>(path: string, places: readonly P[]): P | null {
  const above = places.filter((place) => place.path === '/' || path === place.path || path.startsWith(`${place.path}/`));
  return above.reduce<P | null>((best, place) => (best === null || place.path.length > best.path.length ? place : best), null);
}

export function leafOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

export function join(folder: string, leaf: string): string {
  return `${folder.replace(/\/+$/, '')}/${leaf}`;
}

/** A physical disk of the host, which no move takes along. */
export const isPassThrough = (path: string): boolean => path.startsWith('/dev/') && !path.startsWith('/dev/shm/');

/** Why this machine cannot be chosen, as a key of the words; null when it can. */
export function whyNotMoved(machine: MachineFacts): 'reasonMoving' | 'reasonPassThrough' | null {
  if (machine.OperationalStatus.some((status) => status.startsWith('StorageMigration'))) return 'reasonMoving';
  return machine.HardDrives.some(({ Path }) => isPassThrough(Path)) ? 'reasonPassThrough' : null;
}
