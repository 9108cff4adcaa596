/** The one catalogue of texts, in each language of the page, and how a text gets its values and figures their units. Pure. */
import { de } from './de.js';
import { en, type Key } from './en.js';

export const languages = { en: 'English', de: 'Deutsch' } as const;
export type Language = keyof typeof languages;
export type { Key } from './en.js';

export const catalogue: { readonly [L in Language]: { readonly [K in Key]: string } } = { en, de };

/** The first of the wanted languages (as `navigator.languages`) that there is; English otherwise. */
export function chooseLanguage(wanted: readonly string[]): Language {
  const found = wanted.map((one) => one.toLowerCase().split('-')[0]!).find((one) => Object.hasOwn(languages, one));
  return (found as Language | undefined) ?? 'en';
}

export type Values = { readonly [name: string]: string | number };

export function say(language: Language, key: Key, values: Values = {}): string {
  // A phase or an outcome of a newer host has no text here: its own word is better than none.
  const text = Object.hasOwn(catalogue[language], key) ? catalogue[language][key] : key.replace(/^[a-z]+_/, '');
  return text.replaceAll(/\{(\w+)\}/g, (whole, name: string) => (name in values ? String(values[name]) : whole));
}

const UNITS = ['KB', 'MB', 'GB', 'TB', 'PB'] as const;

/** 1 GB is 2^30 bytes, as in PowerShell and in the host's own messages. */
export function bytesText(language: Language, bytes: bigint | string | number): string {
  let value = Number(bytes);
  if (value < 1024) return `${value} ${say(language, 'bytes')}`;
  let unit = -1;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = value >= 100 ? 0 : 1;
  return `${value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits })} ${UNITS[unit]}`;
}

export function secondsText(language: Language, seconds: number): string {
  if (seconds < 120) return say(language, 'seconds', { count: Math.round(seconds) });
  if (seconds < 7200) return say(language, 'minutes', { count: Math.round(seconds / 60) });
  return say(language, 'hours', { count: (seconds / 3600).toLocaleString(language, { maximumFractionDigits: 1 }) });
}

/** Below a tenth of a millisecond in microseconds: a blackout of 3 µs is not 0. */
export function millisecondsText(language: Language, microseconds: string | number): string {
  const us = Number(microseconds);
  if (us < 100) return `${Math.round(us)} µs`;
  return `${(us / 1000).toLocaleString(language, { minimumFractionDigits: 1, maximumFractionDigits: us < 1000 ? 2 : 1 })} ms`;
}
