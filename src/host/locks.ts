/** Who may do what to a VM or a path right now (see services.ts). */
import { resolve } from 'node:path';
import { VmStorageError } from '../model/errors.js';
import type { Claim, Locks } from './services.js';

export class HostLocks implements Locks {
  readonly #moving = new Set<string>();
  readonly #paths = new Map<string, string>();
  readonly #queues = new Map<string, Promise<unknown>>();

  claimMove(vmId: string): Claim {
    if (this.#moving.has(vmId)) {
      throw new VmStorageError(
        'ObjectInUse',
        'The operation cannot be performed while the object is in use. The storage of this virtual machine is already being moved.',
        { target: vmId },
      );
    }
    this.#moving.add(vmId);
    return once(() => this.#moving.delete(vmId));
  }

  isMoving(vmId: string): boolean {
    return this.#moving.has(vmId);
  }

  exclusive<T>(vmId: string, body: () => Promise<T>): Promise<T> {
    const before = this.#queues.get(vmId) ?? Promise.resolve();
    const result = before.then(body);
    const settled = result.then(
      () => {},
      () => {},
    );
    this.#queues.set(vmId, settled);
    void settled.then(() => {
      if (this.#queues.get(vmId) === settled) this.#queues.delete(vmId);
    });
    return result;
  }

  claimPaths(paths: readonly string[], holder: string): Claim {
    const wanted = [...new Set(paths.map((path) => resolve(path)))];
    for (const path of wanted) {
      const present = this.#paths.get(path);
      if (present !== undefined)
        throw new VmStorageError('ObjectInUse', `The path '${path}' cannot be used now: ${present}.`, { target: path });
    }
    for (const path of wanted) this.#paths.set(path, holder);
    return once(() => wanted.forEach((path) => this.#paths.delete(path)));
  }

  pathHolder(path: string): string | null {
    return this.#paths.get(resolve(path)) ?? null;
  }
}

function once(release: () => void): Claim {
  let held = true;
  return {
    release() {
      if (held) release();
      held = false;
    },
  };
}
