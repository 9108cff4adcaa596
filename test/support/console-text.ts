/** What a VM's console log says as text: firmware and boot sectors print lines for people, not the test guest's JSON. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { WireObject } from '../../src/protocol/messages.js';
import { until } from './until.js';

/** Cursor moves, colours and modes of an ANSI terminal: what OVMF and its shell draw with. */
const ESCAPES = /\u001b\[[0-9;?=]*[A-Za-z]/g;

export class ConsoleText {
  constructor(readonly path: string) {}

  /** The console log of a VM as Get-VM puts it out: in the folder that its Notes name. */
  static of(vm: WireObject): ConsoleText {
    const folder = /^Logs: (\/.*)$/m.exec(String(vm['Notes']))?.[1];
    if (folder === undefined) throw new Error(`the Notes of the VM name no folder of logs: ${JSON.stringify(vm['Notes'])}`);
    return new ConsoleText(join(folder, 'console.log'));
  }

  get text(): string {
    return existsSync(this.path) ? readFileSync(this.path, 'latin1').replaceAll(ESCAPES, '') : '';
  }

  /** How often it says `words`. */
  count(words: string): number {
    return this.text.split(words).length - 1;
  }

  /** Resolves when it has said `words` that often; what it said last is in the error when it did not. */
  async says(words: string, times: number, limitMs: number): Promise<void> {
    try {
      await until(`"${words}" ${times} times`, () => this.count(words) >= times || undefined, limitMs);
    } catch (cause) {
      throw new Error(`${(cause as Error).message} The console (${this.path}) ends with:\n${this.text.slice(-600) || '(nothing)'}`, {
        cause,
      });
    }
  }
}
