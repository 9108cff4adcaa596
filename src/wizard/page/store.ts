/**
 * What the page knows, as signals. Events of the stream are gathered and put in together, at most ten times a second: a host tells of a thousand
 * machines in one go, and four times a second of each move.
 */
import { computed, signal } from '@preact/signals';
import type { VirtualMachineObject, VMStorageMoveObject } from '../../../cmdlets/types/index.js';
import type { Fault, Place } from '../../protocol/subscription.js';
import type { Begun, Session, StreamEvent } from '../contract/messages.js';
import type { WizardState } from '../steps/wizard.js';

export type Machine = VirtualMachineObject;
export type Move = VMStorageMoveObject;

/** A move that the performing page shows. */
export interface ShownMove {
  readonly vmName: string;
  readonly moveId: string | null;
  /** Why there is no move. */
  readonly begun: Begun | null;
  /** The machine before it, where this page began it. */
  readonly before: Machine | null;
}

export type Route =
  | { readonly at: 'home' }
  | { readonly at: 'wizard'; readonly wizard: WizardState }
  | { readonly at: 'performing'; readonly moves: readonly ShownMove[] | null };

export interface Sample {
  readonly atMs: number;
  readonly p99Us: number | null;
}

export const session = signal<Session | null>(null);
/** Why the page can show nothing. */
export const locked = signal<{ readonly reason: string | null } | null>(null);
export const hostTrouble = signal<string | null>(null);
/** False until all there is has been told once. */
export const isCurrent = signal(false);
export const machines = signal<ReadonlyMap<string, Machine>>(new Map());
export const faults = signal<ReadonlyMap<string, Fault>>(new Map());
export const moves = signal<ReadonlyMap<string, Move>>(new Map());
export const places = signal<ReadonlyMap<string, Place>>(new Map());
export const route = signal<Route>({ at: 'home' });
export const chosen = signal<ReadonlySet<string>>(new Set());

export const machinesByName = computed(() => [...machines.value.values()].sort((a, b) => a.Name.localeCompare(b.Name)));
export const placesByPath = computed(() => [...places.value.values()].sort((a, b) => (a.path < b.path ? -1 : 1)));

/** Of each move since this page watches it. Ten minutes at four a second; older ones are let go. */
const SAMPLES_MAX = 2400;
const samples = new Map<string, Sample[]>();
/** Rung when samples were added. */
export const sampled = signal(0);
export const samplesOf = (moveId: string): readonly Sample[] => samples.get(moveId) ?? [];

const GATHER_MS = 100;
let gathered: StreamEvent[] = [];
let timer: ReturnType<typeof setTimeout> | null = null;

export function take(event: StreamEvent): void {
  gathered.push(event);
  timer ??= setTimeout(putIn, GATHER_MS);
}

function putIn(): void {
  timer = null;
  const events = gathered;
  gathered = [];
  const next = { machine: new Map(machines.value), fault: new Map(faults.value), move: new Map(moves.value), place: new Map(places.value) };
  for (const event of events) {
    if (event.$t === 'Host') hostTrouble.value = event.answers ? null : event.message;
    else if (event.$t === 'Bracket') {
      if (event.at === 'current') isCurrent.value = true;
      else for (const map of Object.values(next)) map.clear();
    } else if (event.kind !== 'host') {
      const map = next[event.kind] as Map<string, unknown> | undefined;
      if (!map) continue; // a newer host tells of more than this page shows
      if (event.value === null) map.delete(event.id);
      else map.set(event.id, event.value);
      if (event.kind === 'move' && event.value !== null) sample(event.value as unknown as Move);
    }
  }
  // Between `begin` and `current` there may be several gatherings: what was known stays until all is told.
  const last = events.findLast((event) => event.$t === 'Bracket');
  if (last?.$t === 'Bracket' && last.at === 'begin') {
    gathered = [...events.slice(events.lastIndexOf(last)), ...gathered];
    timer ??= setTimeout(putIn, GATHER_MS);
    return;
  }
  machines.value = next.machine;
  faults.value = next.fault;
  moves.value = next.move;
  places.value = next.place;
}

function sample(move: Move): void {
  if (move.EndTime !== null) return;
  const some = samples.get(move.MoveId) ?? [];
  some.push({ atMs: Date.now(), p99Us: move.GuestP99Us === null ? null : Number(move.GuestP99Us) });
  if (some.length > SAMPLES_MAX) some.shift();
  samples.set(move.MoveId, some);
  sampled.value++;
}
