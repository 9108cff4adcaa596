/** The words in the language that is chosen, and the appearance: both follow the browser until somebody chooses. */
import { computed, signal } from '@preact/signals';
import { visibleLine } from '../../model/visible.js';
import * as words from '../words/words.js';

export const language = signal<words.Language>(words.chooseLanguage(navigator.languages));
export type Theme = 'Auto' | 'Light' | 'Dark';
export const theme = signal<Theme>('Auto');

const darkSystem = matchMedia('(prefers-color-scheme: dark)');
const isSystemDark = signal(darkSystem.matches);
darkSystem.addEventListener('change', () => (isSystemDark.value = darkSystem.matches));
export const isDark = computed(() => (theme.value === 'Auto' ? isSystemDark.value : theme.value === 'Dark'));

/** Dates as the user's own country writes them, as far as the language is his. */
export const locale = computed(() => navigator.languages.find((one) => one.toLowerCase().startsWith(language.value)) ?? language.value);

/** Names and paths as they may be seen: what has no shape, or turns the direction of reading, would make one look like another. */
export const shown = visibleLine;

export function t(key: words.Key, values: words.Values = {}): string {
  const visible = Object.entries(values).map(([name, value]) => [name, typeof value === 'string' ? shown(value) : value] as const);
  return words.say(language.value, key, Object.fromEntries(visible));
}
export const bytes = (value: bigint | string | number): string => words.bytesText(language.value, value);
export const seconds = (value: number): string => words.secondsText(language.value, value);
export const milliseconds = (us: string | number): string => words.millisecondsText(language.value, us);
export const time = (iso: string): string => new Date(iso).toLocaleString(locale.value, { dateStyle: 'short', timeStyle: 'medium' });
export type { Key } from '../words/words.js';
