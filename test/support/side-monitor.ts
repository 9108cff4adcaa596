/** The test's end of the second monitor of a QEMU (instance.ts), which connects to it, and connects again when it is away. */
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { Qmp } from '../../src/hypervisor/qmp.js';
import { until } from './until.js';

export class SideMonitor implements Disposable {
  readonly #server: Server;
  /** Of the QEMU that connected last. */
  #qmp: Qmp | null = null;

  constructor(private readonly path: string) {
    rmSync(path, { force: true });
    this.#server = createServer((socket) => {
      void Qmp.over(socket).then(
        (qmp) => {
          this.#qmp = qmp;
          void qmp.closed.then(() => {
            if (this.#qmp === qmp) this.#qmp = null;
          });
        },
        () => socket.destroy(),
      );
    });
    this.#server.listen(path, () => chmodSync(path, 0o666));
    this.#server.unref();
  }

  async call(command: string, parameters: Record<string, unknown>): Promise<unknown> {
    const qmp = await until('QEMU connects its second monitor', () => this.#qmp ?? undefined);
    return qmp.call(command, parameters);
  }

  [Symbol.dispose](): void {
    this.#server.close();
    this.#qmp?.close();
  }
}
