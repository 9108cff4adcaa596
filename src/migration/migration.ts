/** Puts the moves together for the host: `createMigration(services)`. The only place here that touches what is global: files, boot id, names. */
import { randomUUID } from 'node:crypto';
import * as os from 'node:os';
import type { MoveStatus } from '../model/move.js';
import { moveFiles, readBootId } from './files.js';
import { moveMethods } from './methods.js';
import { StorageMoves, type MoveListener } from './moves.js';
import { Records } from './records.js';
import type { CmdletContext, HostServices, JournalStatus, MigrationPorts, VmRecord, WireObject } from './ports.js';
import { shownMove, shownMoves } from './shown-moves.js';

export interface HostMigration {
  /** Move-VMStorage, Get-VMStorageMove, Stop-VMStorageMove. */
  readonly methods: { readonly [cmdlet: string]: (context: CmdletContext) => Promise<void> };
  /** Figures of the VM's move that runs or waits; null when there is none. */
  status(vmId: string): MoveStatus | null;
  /** As Get-VMStorageMove shows them. */
  shown(moveId: string): WireObject | null;
  shownIds(): readonly string[];
  subscribe(listener: MoveListener): () => void;
  /**
   * Once, after the registry is loaded and before cmdlets are served: takes up what needs no journal (moves without disks, half made
   * destinations, ends). Those with a journal are shown from here on, and go on by `recover`.
   */
  start(): Promise<void>;
  /** Once per VM with a journal file, after its worker serves; null when the worker knows of no move. */
  recover(vm: VmRecord, journal: JournalStatus | null): Promise<void>;
  /** In the place of `recover`, when the worker cannot be asked: the VM's interrupted move is shown as failed. */
  abandon(vmId: string, cause: unknown): void;
  /**
   * At the end of the host, before its workers are let go of: no move takes another step here, and those that wait in line end. Those that
   * were begun go on in their workers.
   */
  close(): Promise<void>;
}

/** What the host's workers ask before they serve. */
export function createRecords(ports: Pick<HostServices, 'registry' | 'paths' | 'heldFolders'>): Records {
  return new Records({ ...ports, files: moveFiles(ports.heldFolders) });
}

export function createMigration(services: HostServices, overrides: Partial<MigrationPorts> = {}): HostMigration {
  const ports: MigrationPorts = {
    registry: services.registry,
    workers: services.workers,
    hypervisor: services.hypervisor,
    locks: services.locks,
    paths: services.paths,
    settings: services.settings,
    clock: services.clock,
    log: services.log.child({ part: 'migration' }),
    files: moveFiles(services.heldFolders),
    bootId: readBootId(),
    hostNames: localNames(),
    computerName: os.hostname(),
    newId: randomUUID,
    ...overrides,
  };
  const moves = new StorageMoves(ports);
  return {
    methods: moveMethods(moves, ports),
    status: (vmId) => moves.of(vmId)?.progress ?? null,
    shown: (moveId) => shownMove(moveId, moves, ports),
    shownIds: () => shownMoves(moves, ports).map((move) => String(move['MoveId'])),
    subscribe: (listener) => moves.subscribe(listener),
    start: () => moves.start(),
    recover: (vm, journal) => moves.recover(vm, journal),
    abandon: (vmId, cause) => moves.abandon(vmId, cause),
    close: async () => moves.close(),
  };
}

function localNames(): readonly string[] {
  const name = os.hostname().toLowerCase();
  return [...new Set(['.', 'localhost', '127.0.0.1', '::1', name, name.split('.')[0]!])];
}
