/**
 * The two ways in which the demo runs cmdlets: PowerShell (scripts/demo/powershell-shell.ts) and the vmstorage command. Both
 * run the same cmdlets with the same parameters and return what they output, so that the demo's story is told once.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { JsonDocument } from '../../src/cli/run-cmdlet.js';
import { repository } from '../../test/support/guest-kernel.js';

const run = promisify(execFile);
/** New-VHD of a fixed disk allocates it; Stop-VM waits for the guest. */
const CMDLET_LIMIT_MS = 5 * 60_000;
const OUTPUT_MOST_BYTES = 64 * 1024 * 1024;

/** A switch is `true`; bytes are numbers or decimal strings. */
export type CmdletParameters = { readonly [name: string]: string | number | boolean };
export type CmdletOutput = { readonly [property: string]: unknown };

/** A cmdlet's own error, in its own words. */
export class CmdletFailure extends Error {
  constructor(
    readonly cmdlet: string,
    message: string,
  ) {
    super(`${cmdlet}: ${message}`);
    this.name = 'CmdletFailure';
  }
}

/** A cmdlet that goes on while others are run. */
export interface RunningCmdlet {
  /** False once it has ended, however it did. */
  isRunning(): Promise<boolean>;
  /** Its end: rejects with CmdletFailure. */
  result(): Promise<void>;
}

export interface CmdletShell extends AsyncDisposable {
  readonly powershell: { readonly version: string; readonly host: string } | null;
  /** Whether the cmdlets of this shell speak to the host from the shell's own process; asked while one runs. Null: it cannot be seen. */
  speaksItself(): Promise<boolean | null>;
  /** Runs a cmdlet; returns the wanted properties of each object it output. */
  run(cmdlet: string, parameters: CmdletParameters, properties?: readonly string[]): Promise<CmdletOutput[]>;
  start(cmdlet: string, parameters: CmdletParameters): Promise<RunningCmdlet>;
}

/** `vmstorage Cmdlet-Name -Parameter value --json`, one process per cmdlet. */
export class CommandLineShell implements CmdletShell {
  readonly powershell = null;
  readonly #running = new Set<Promise<unknown>>();

  constructor(private readonly environment: NodeJS.ProcessEnv) {}

  speaksItself(): Promise<boolean> {
    return Promise.resolve(false);
  }

  async run(cmdlet: string, parameters: CmdletParameters): Promise<CmdletOutput[]> {
    const words = Object.entries(parameters).flatMap(([name, value]) =>
      value === true ? [`-${name}`] : value === false ? [] : [`-${name}`, String(value)],
    );
    const program = join(repository, 'dist/src/cli/main.js');
    const how = { env: this.environment, timeout: CMDLET_LIMIT_MS, maxBuffer: OUTPUT_MOST_BYTES };
    const { stdout, stderr, message } = await run(process.execPath, [program, cmdlet, ...words, '--json'], how).then(
      (done) => ({ ...done, message: '' }),
      // The document tells more than the exit code.
      (error: Error & { stdout?: string; stderr?: string }) => ({
        stdout: error.stdout ?? '',
        stderr: error.stderr ?? '',
        message: error.message,
      }),
    );
    let document: Pick<JsonDocument, 'ok' | 'output' | 'errors'>;
    try {
      document = JSON.parse(stdout) as JsonDocument;
    } catch {
      throw new CmdletFailure(cmdlet, stderr.trim() || message || `it printed no JSON document: ${stdout.slice(0, 200)}`);
    }
    if (!document.ok)
      throw new CmdletFailure(cmdlet, document.errors.map(({ message: text, code }) => `${text} (${code})`).join('; ') || message);
    return document.output;
  }

  start(cmdlet: string, parameters: CmdletParameters): Promise<RunningCmdlet> {
    let ended = false;
    const end = this.run(cmdlet, parameters)
      .then(() => undefined)
      .finally(() => {
        ended = true;
        this.#running.delete(end);
      });
    this.#running.add(end);
    // Its failure is told by result(); here it only must not count as unhandled before that is asked.
    end.catch(() => undefined);
    return Promise.resolve({ isRunning: () => Promise.resolve(!ended), result: () => end });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled(this.#running);
  }
}
