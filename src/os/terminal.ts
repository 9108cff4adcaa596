/** Where text leaves for a terminal, or whatever stands in its place. Nothing else in src writes to standard output and error: scripts/lint-house.mjs. */
import { visibleJson, visibleLines, visibleMessage } from '../model/visible.js';

/** Lines of cells that are made visible one by one (visibleLine); here nothing but the ends of lines is left as it is. */
export function print(text: string): void {
  console.log(visibleLines(text));
}

export function printJson(document: unknown, indent?: number): void {
  console.log(visibleJson(JSON.stringify(document, null, indent)));
}

/** A sentence for a person, on standard error. */
export function complain(text: string): void {
  console.error(visibleMessage(text));
}

/** Whoever started us may be gone: what we print to it must not end us. */
export function outliveReaders(): void {
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
}
