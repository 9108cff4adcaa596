/** What a process is to inherit: opened here, with the host's rights, and closed here once the process has it. */
import { closeSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { FIRST_INHERITED } from '../os/processes.js';

export class Inherited {
  readonly #open: { readonly descriptor: number; readonly close: () => Promise<void> | void }[] = [];

  /** In order: the first is FIRST_INHERITED in the process. */
  get descriptors(): readonly number[] {
    return this.#open.map(({ descriptor }) => descriptor);
  }

  /** The number it has in the process. */
  add(descriptor: number, close: () => Promise<void> | void): number {
    this.#open.push({ descriptor, close });
    return FIRST_INHERITED + this.#open.length - 1;
  }

  addFile(handle: FileHandle): number {
    return this.add(handle.fd, () => handle.close());
  }

  /** A descriptor as `openLog` gives it. */
  addLog(descriptor: number): number {
    return this.add(descriptor, () => closeSync(descriptor));
  }

  async close(): Promise<void> {
    for (const { close } of this.#open.splice(0)) await close();
  }
}
