/**
 * The Move Wizard: which page comes after which, and what keeps somebody on one. Pure: the page draws a state and sends an event.
 *
 * ```text
 *  beforeYouBegin ─▶ chooseMoveType ─▶ chooseOptions ─▶ chooseLocations ─▶ summary ──finish──▶ performing
 *        ◀───────────────◀───────────────◀────────────────◀────────────────◀─┘                 (the home page shows it as well)
 * ```
 * Each page has one way forward and one back. `Cancel` is the page's: nothing was begun before `performing`, and nothing is undone by leaving it.
 */
import type { MoveOrder } from '../contract/order.js';
import { isPassThrough, type MachineFacts, type PlaceFacts } from './facts.js';
import { folderIn, rowsFor, targetOf, type MoveOption, type Row } from './rows.js';

export const pages = ['beforeYouBegin', 'chooseMoveType', 'chooseOptions', 'chooseLocations', 'summary', 'performing'] as const;
export type Page = (typeof pages)[number];

export interface WizardState {
  readonly page: Page;
  /** As they were when the wizard was opened: what is moved is what was shown. */
  readonly machines: readonly MachineFacts[];
  readonly option: MoveOption;
  readonly rows: readonly Row[];
  readonly retainSources: boolean;
  readonly requireFullSize: boolean;
}

export type WizardEvent =
  | { readonly do: 'next' | 'back' }
  | { readonly do: 'option'; readonly option: MoveOption; readonly places: readonly PlaceFacts[] }
  | { readonly do: 'folder'; readonly key: string; readonly folder: string }
  | { readonly do: 'everythingTo'; readonly place: string }
  | { readonly do: 'choose'; readonly key: string; readonly isChosen: boolean }
  | { readonly do: 'retainSources' | 'requireFullSize'; readonly on: boolean };

/** Why there is no Next on this page; a key of the words, and the row it is about. */
export interface Obstacle {
  readonly reason: 'obstacleNoFolder' | 'obstacleNotAbsolute' | 'obstacleNothingChosen' | 'obstacleNoDisks' | 'obstacleSameTarget';
  readonly key: string | null;
}

export function openWizard(machines: readonly MachineFacts[], places: readonly PlaceFacts[]): WizardState {
  return {
    page: 'beforeYouBegin',
    machines,
    option: 'single',
    rows: rowsFor('single', machines, places),
    retainSources: false,
    requireFullSize: false,
  };
}

export function step(state: WizardState, event: WizardEvent): WizardState {
  switch (event.do) {
    case 'next':
      return obstacle(state) ? state : { ...state, page: pages[pages.indexOf(state.page) + 1] ?? state.page };
    case 'back':
      // What was begun is not taken back by going back.
      return state.page === 'performing' ? state : { ...state, page: pages[Math.max(0, pages.indexOf(state.page) - 1)]! };
    case 'option':
      return { ...state, option: event.option, rows: rowsFor(event.option, state.machines, event.places) };
    case 'folder':
      return withRow(state, event.key, { folder: event.folder });
    case 'choose':
      return withRow(state, event.key, { isChosen: event.isChosen });
    case 'everythingTo':
      return {
        ...state,
        rows: state.rows.map((row) => ({ ...row, folder: folderIn(event.place, { Name: row.vmName }, state.machines) })),
      };
    case 'retainSources':
    case 'requireFullSize':
      return { ...state, [event.do]: event.on };
  }
}

function withRow(state: WizardState, key: string, change: Partial<Row>): WizardState {
  return { ...state, rows: state.rows.map((row) => (row.key === key ? { ...row, ...change } : row)) };
}

export function obstacle(state: WizardState): Obstacle | null {
  if (state.page === 'chooseOptions' && state.option === 'disksOnly' && state.rows.length === 0)
    return { reason: 'obstacleNoDisks', key: null };
  if (pages.indexOf(state.page) < pages.indexOf('chooseLocations')) return null;
  const chosen = state.rows.filter((row) => row.isChosen);
  if (chosen.length === 0) return { reason: 'obstacleNothingChosen', key: null };
  for (const row of chosen) {
    if (row.folder.trim() === '') return { reason: 'obstacleNoFolder', key: row.key };
    if (!row.folder.startsWith('/')) return { reason: 'obstacleNotAbsolute', key: row.key };
  }
  const taken = new Set<string>();
  for (const { key, target } of filesOf(state, chosen)) {
    if (taken.has(target)) return { reason: 'obstacleSameTarget', key };
    taken.add(target);
  }
  return null;
}

/** Where each disk will be: two must not become one file. */
function filesOf(state: WizardState, chosen: readonly Row[]): readonly { readonly key: string; readonly target: string }[] {
  return chosen.flatMap((row) => {
    if (row.kind === 'VirtualHardDisk') return [{ key: row.key, target: targetOf(row) }];
    if (row.kind !== 'All') return [];
    const machine = state.machines.find(({ Id }) => Id === row.vmId);
    const disks = machine?.HardDrives.filter(({ Path }) => !isPassThrough(Path)) ?? [];
    return disks.map(({ Path }) => ({ key: row.key, target: targetOf({ ...row, kind: 'VirtualHardDisk', source: Path }) }));
  });
}

/** One for each machine that something was chosen of, in their order. `names`: of all machines of the host. */
export function ordersOf(state: WizardState, names: readonly string[]): readonly MoveOrder[] {
  return state.machines.flatMap((machine) => {
    const rows = state.rows.filter((row) => row.vmId === machine.Id && row.isChosen);
    if (rows.length === 0) return [];
    const folderOf = (kind: Row['kind']): string | null => rows.find((row) => row.kind === kind)?.folder ?? null;
    const all = folderOf('All');
    return [
      {
        vmId: machine.Id,
        vmName: machine.Name,
        nameIsUnique: names.filter((name) => name.toLowerCase() === machine.Name.toLowerCase()).length <= 1,
        destination:
          all !== null
            ? { kind: 'single' as const, folder: all }
            : {
                kind: 'multiple' as const,
                virtualMachinePath: folderOf('Configuration'),
                snapshotFilePath: folderOf('Checkpoints'),
                smartPagingFilePath: folderOf('SmartPaging'),
                disks: rows.filter((row) => row.kind === 'VirtualHardDisk').map((row) => ({ source: row.source, target: targetOf(row) })),
              },
        retainSources: state.retainSources,
        requireFullSize: state.requireFullSize,
      },
    ];
  });
}
