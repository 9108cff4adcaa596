/** One catalogue of texts: every text in every language, each used, and none anywhere else in the page. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseSync } from 'oxc-parser';
import { describe, expect, it } from 'vitest';
import {
  bytesText,
  catalogue,
  chooseLanguage,
  languages,
  millisecondsText,
  say,
  secondsText,
  type Key,
} from '../../../src/wizard/words/words.js';
import { repository } from '../../support/guest-kernel.js';

const page = join(repository, 'src/wizard/page');
const sources = readdirSync(page)
  .filter((name) => /\.tsx?$/.test(name))
  .map((name) => ({ name, text: readFileSync(join(page, name), 'utf8') }));
const keys = Object.keys(catalogue.en) as Key[];
const placeholders = (text: string): string[] => [...text.matchAll(/\{(\w+)\}/g)].map((match) => match[1]!).sort();

describe('the catalogue', () => {
  it.each(Object.keys(languages) as (keyof typeof languages)[])('%s has every text, with the same values in it', (language) => {
    expect(Object.keys(catalogue[language]).sort()).toEqual([...keys].sort());
    for (const key of keys) {
      expect(catalogue[language][key].trim(), key).not.toBe('');
      expect(placeholders(catalogue[language][key]), key).toEqual(placeholders(catalogue.en[key]));
    }
  });

  it('has no text that nothing shows', () => {
    const all = sources.map(({ text }) => text).join('\n') + readFileSync(join(repository, 'src/wizard/words/words.ts'), 'utf8');
    const steps = ['facts.ts', 'wizard.ts'].map((name) => readFileSync(join(repository, 'src/wizard/steps', name), 'utf8')).join('\n');
    const isUsed = (key: string): boolean =>
      new RegExp(`\\b${key}\\b`).test(all) ||
      new RegExp(`'${key}'`).test(steps) ||
      /^(?:phase_|outcome_|item[A-Z]|theme[A-Z])/.test(key) ||
      (key.endsWith('Why') && new RegExp(`\\b${key.slice(0, -3)}\\b`).test(all));
    expect(keys.filter((key) => !isUsed(key))).toEqual([]);
  });
});

/** What a person would read: text between tags, and the attributes that are read aloud or shown. */
function literalTexts(name: string, text: string): string[] {
  const found: string[] = [];
  const visit = (node: unknown): void => {
    if (node === null || typeof node !== 'object') return;
    if (Array.isArray(node)) return node.forEach(visit);
    const { type, value, name: attribute } = node as { type?: string; value?: unknown; name?: { name?: string } };
    if (type === 'JSXText' && /\p{L}{2}/u.test(String(value))) found.push(`${name}: ${String(value).trim()}`);
    if (type === 'JSXAttribute' && /^(?:aria-label|title|placeholder|alt|label)$/.test(attribute?.name ?? '')) {
      const literal = value as { type?: string; value?: unknown } | null;
      if (literal?.type === 'Literal' && /\p{L}{2}/u.test(String(literal.value))) found.push(`${name}: ${String(literal.value)}`);
    }
    for (const child of Object.values(node)) visit(child);
  };
  visit(parseSync(name, text).program);
  return found;
}

describe('the page', () => {
  it('has no text of its own', () => {
    expect(sources.flatMap(({ name, text }) => literalTexts(name, text))).toEqual([]);
  });

  it('and the search for such texts finds them', () => {
    expect(literalTexts('a.tsx', '<p title="Read me">Hello {x} <b>7</b></p>')).toEqual(['a.tsx: Read me', 'a.tsx: Hello']);
  });
});

describe('values', () => {
  it('are put in as they are, markup included; what is missing is seen', () => {
    expect(say('en', 'titleWizard', { name: '<b>x</b>{count}' })).toBe('Move "<b>x</b>{count}" Wizard');
    expect(say('en', 'titleWizard')).toBe('Move "{name}" Wizard');
  });

  it('what a newer host names and this page has no text for is shown by its own word', () => {
    expect(say('de', 'phase_rehearse' as Key)).toBe('rehearse');
    expect(say('en', 'constructor' as Key)).toBe('constructor');
  });

  it('figures have units, in the way of the language', () => {
    expect(bytesText('en', 17)).toBe('17 bytes');
    expect(bytesText('en', '12884901888')).toBe('12.0 GB');
    expect(bytesText('de', 1536 * 2 ** 20)).toBe('1,5 GB');
    expect(secondsText('en', 90)).toBe('90 s');
    expect(secondsText('de', 7_300)).toBe('2 h');
    expect(millisecondsText('de', '12345')).toBe('12,3 ms');
    expect(millisecondsText('en', 3)).toBe('3 µs');
  });

  it('the language is the first that the browser wants and that there is', () => {
    expect(chooseLanguage(['fr-FR', 'de-AT', 'en'])).toBe('de');
    expect(chooseLanguage(['fr'])).toBe('en');
    expect(chooseLanguage([])).toBe('en');
  });
});
