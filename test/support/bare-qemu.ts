/**
 * QEMU started directly, without our host: for tests of the guest itself and of peers. It holds one process and its QMP
 * connection; disposing of it ends both, however the test ended.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { GuestConsole } from './guest.js';
import { guestKernel } from './guest-kernel.js';

/** QEMU has its QMP socket within 0.2 s; a busy machine takes longer. */
const QMP_LIMIT_MS = 10_000;

export interface BareQemuOptions {
  /** Holds console.log, qemu.log and qmp.sock. */
  readonly folder: string;
  /** Raw images, attached by virtio-blk as vda, vdb ... */
  readonly rawDisks?: readonly string[];
  /** Further QEMU arguments, before the disks'. */
  readonly extra?: readonly string[];
  /** The guest's options, "w.qd=4 w.iops=300". */
  readonly guestOptions?: string;
  /** Default: console.log in the folder. */
  readonly consolePath?: string;
  readonly environment?: NodeJS.ProcessEnv;
}

export class BareQemu implements AsyncDisposable {
  readonly console: GuestConsole;
  readonly #process: ChildProcess;
  readonly #gone = new AbortController();
  readonly exited: Promise<number | null>;
  #qmp: Socket | null = null;
  /** In the order of the commands; null = QEMU is gone. */
  #answers: ((answer: Record<string, unknown> | null) => void)[] = [];

  private constructor(private readonly options: BareQemuOptions) {
    const { folder, rawDisks = [], extra = [], guestOptions = '', environment = process.env } = options;
    const { kernel, initrd } = guestKernel();
    const consolePath = options.consolePath ?? join(folder, 'console.log');
    const log = openSync(join(folder, 'qemu.log'), 'a', 0o600);
    this.#process = spawn(
      'qemu-system-x86_64',
      [
        ...['-nodefaults', '-no-user-config', '-display', 'none', '-accel', 'tcg,thread=multi', '-cpu', 'max', '-m', '256'],
        ...['-machine', 'q35,memory-backend=mem', '-object', 'memory-backend-memfd,id=mem,size=256M,share=on'],
        ...['-kernel', kernel, '-initrd', initrd, '-append', `quiet panic=-1 ${guestOptions}`, '-serial', 'none'],
        ...['-qmp', `unix:${join(folder, 'qmp.sock')},server=on,wait=off`],
        ...['-chardev', `file,id=console,path=${consolePath}`, '-device', 'virtio-serial-pci', '-device', 'virtconsole,chardev=console'],
        ...extra,
        ...rawDisks.flatMap((path, i) => [
          '-blockdev',
          `driver=file,node-name=disk${i},filename=${path},cache.direct=on`,
          '-device',
          `virtio-blk-pci,drive=disk${i}`,
        ]),
      ],
      { env: environment, stdio: ['ignore', log, log] },
    );
    closeSync(log);
    this.exited = new Promise((resolve) => {
      this.#process.once('error', () => resolve(null));
      this.#process.once('exit', (code) => resolve(code));
    });
    void this.exited.then(() => {
      this.#gone.abort();
      for (const answer of this.#answers.splice(0)) answer(null);
    });
    this.console = new GuestConsole(consolePath);
  }

  /** Starts QEMU; resolves when it answers on QMP. */
  static async start(options: BareQemuOptions): Promise<BareQemu> {
    const qemu = new BareQemu(options);
    try {
      await qemu.#connect();
      return qemu;
    } catch (error) {
      await qemu.stop();
      throw new Error(`QEMU did not start: ${(error as Error).message}\n${readFileSync(join(options.folder, 'qemu.log'), 'utf8')}`, {
        cause: error,
      });
    }
  }

  get pid(): number {
    return this.#process.pid ?? -1;
  }
  /** Aborted when the process has ended. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  async #connect(): Promise<void> {
    const limit = Date.now() + QMP_LIMIT_MS;
    const socket = await new Promise<Socket>((resolve, reject) => {
      const attempt = (): void => {
        const tried = connect(join(this.options.folder, 'qmp.sock'));
        tried.once('connect', () => resolve(tried));
        tried.once('error', (error) => {
          if (this.gone.aborted || Date.now() > limit) reject(error);
          else setTimeout(attempt, 20);
        });
      };
      attempt();
    });
    let rest = '';
    socket.on('error', () => socket.destroy());
    socket.on('data', (chunk: Buffer) => {
      const lines = (rest + chunk.toString('utf8')).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        const message = JSON.parse(line) as Record<string, unknown>;
        if ('return' in message || 'error' in message) this.#answers.shift()?.(message);
      }
    });
    this.#qmp = socket;
    await this.qmp('qmp_capabilities');
  }

  /** One QMP command; rejects with QEMU's own words. */
  async qmp(execute: string, args: Record<string, unknown> = {}): Promise<unknown> {
    const socket = this.#qmp;
    if (!socket || socket.destroyed || this.gone.aborted) throw new Error(`${execute}: QEMU's monitor is closed`);
    const answer = await new Promise<Record<string, unknown> | null>((resolve) => {
      this.#answers.push(resolve);
      socket.write(`${JSON.stringify({ execute, arguments: args })}\n`);
    });
    if (answer === null) throw new Error(`${execute}: QEMU is gone`);
    if ('error' in answer) throw new Error(`${execute}: ${JSON.stringify(answer.error)}`);
    return answer.return;
  }

  pressPowerButton(): Promise<unknown> {
    return this.qmp('system_powerdown');
  }
  pressCtrlAltDelete(): Promise<unknown> {
    return this.qmp('send-key', { keys: ['ctrl', 'alt', 'delete'].map((data) => ({ type: 'qcode', data })) });
  }

  /** Ends QEMU at once, as a power cut would. */
  async stop(): Promise<void> {
    this.#qmp?.destroy();
    if (this.#process.exitCode === null && this.#process.signalCode === null && this.#process.pid !== undefined) {
      const exit = once(this.#process, 'exit');
      this.#process.kill('SIGKILL');
      await exit;
    }
    await this.console.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}
