/** What Tab offers: names of machines. Paths are completed by the shell itself. */
import type { Registry } from './services.js';

/** More than this nobody reads. */
const ITEMS_MAX = 200;

export function completions(registry: Registry): (kind: string, word: string) => Promise<{ text: string; tip: string }[]> {
  return async (kind, word) => {
    if (kind !== 'vmName') return [];
    const wanted = word.replace(/^['"]|['"*]+$/g, '').toLowerCase();
    const names = new Map(
      registry.list().map(({ configuration }) => [configuration.name, `Generation ${configuration.generation}, ${configuration.path}`]),
    );
    return [...names]
      .filter(([name]) => name.toLowerCase().startsWith(wanted))
      .sort(([a], [b]) => a.localeCompare(b))
      .slice(0, ITEMS_MAX)
      .map(([text, tip]) => ({ text, tip }));
  };
}
