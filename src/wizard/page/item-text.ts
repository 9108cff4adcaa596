/** What a row of the table, or an item of a plan, is called. */
import { leafOf } from '../steps/facts.js';
import type { ItemKind } from '../steps/rows.js';
import { type Key, shown, t } from './text.js';

export function itemText({ kind, source }: { readonly kind: ItemKind; readonly source: string }): string {
  return kind === 'VirtualHardDisk' ? `${t('itemVirtualHardDisk')} ${shown(leafOf(source))}` : t(`item${kind}` as Key);
}
