/**
 * `web01,web02` as a person types it who has no PowerShell to tell a name from a list: it is the machine of that name where there is one,
 * and a list of names otherwise. Only the host knows which, so both travel.
 */
import type { WireValue } from './messages.js';

export type NameOrList = { readonly $t: 'NameOrList'; readonly text: string; readonly list: readonly string[] };

export function nameOrList(text: string, list: readonly string[]): WireValue {
  return { $t: 'NameOrList', text, list: [...list] };
}

export function isNameOrList(value: unknown): value is NameOrList {
  if (typeof value !== 'object' || value === null) return false;
  const { $t, text, list } = value as Partial<NameOrList>;
  return $t === 'NameOrList' && typeof text === 'string' && Array.isArray(list) && list.every((name) => typeof name === 'string');
}
