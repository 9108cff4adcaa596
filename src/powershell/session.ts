/**
 * One PowerShell process that runs scripts for TypeScript; the only file that names node-powershell.
 *
 * A script is a constant, values are parameters: the script travels as base64, the parameters as base64 of JSON, in one physical
 * line, so no value is ever part of a command. The answer is one base64 line behind a random mark, whatever else the script
 * prints. The library is used as a pipe only: its argument builder injects, its time-out leaves the command running, and it takes
 * `exit` in a script for success; none of the three is relied on here.
 */
import { randomBytes } from 'node:crypto';
import { PowerShell } from 'node-powershell';
import { VmStorageError } from '../model/errors.js';
import type { WireValue } from '../protocol/messages.js';
import { findPwsh, pwshEnvironment } from './find-pwsh.js';

const defaultTimeoutMs = 60_000;
/** Starting takes 0.3 to 1 s; a loaded machine may need many times that. */
const startTimeoutMs = 60_000;
/** Levels of objects in the answer. */
const defaultDepth = 4;
/** Between asking the process to end and ending it. */
const disposePatienceMs = 2000;

/** Defined once per session. The names are odd because a script block sees its caller's variables. */
const prelude = `
function global:__vmsError([System.Management.Automation.ErrorRecord]$e) {
  @{ message = $e.Exception.Message; id = $e.FullyQualifiedErrorId; category = "$($e.CategoryInfo.Category)"; info = "$($e.CategoryInfo)"
     target = "$($e.TargetObject)"; exceptionType = $e.Exception.GetType().FullName
     recommendedAction = if ($e.ErrorDetails) { $e.ErrorDetails.RecommendedAction } else { $null } }
}
function global:__vmsInvoke([string]$__vmsMark, [string]$__vmsScript, [string]$__vmsParameters, [int]$__vmsDepth) {
  $__vmsUtf8 = [Text.UTF8Encoding]::new($false)
  $__vmsResult = @{ terminated = $false }
  foreach ($__vmsName in 'output', 'errors', 'warnings', 'verbose', 'debug', 'information') { $__vmsResult[$__vmsName] = [Collections.Generic.List[object]]::new() }
  try {
    $__vmsBlock = [scriptblock]::Create($__vmsUtf8.GetString([Convert]::FromBase64String($__vmsScript)))
    $__vmsBound = ConvertFrom-Json -InputObject ($__vmsUtf8.GetString([Convert]::FromBase64String($__vmsParameters))) -AsHashtable -DateKind String
    & $__vmsBlock @__vmsBound *>&1 | ForEach-Object {
      if ($_ -is [System.Management.Automation.ErrorRecord]) { $__vmsResult.errors.Add((__vmsError $_)) }
      elseif ($_ -is [System.Management.Automation.WarningRecord]) { $__vmsResult.warnings.Add($_.Message) }
      elseif ($_ -is [System.Management.Automation.VerboseRecord]) { $__vmsResult.verbose.Add($_.Message) }
      elseif ($_ -is [System.Management.Automation.DebugRecord]) { $__vmsResult.debug.Add($_.Message) }
      elseif ($_ -is [System.Management.Automation.InformationRecord]) { $__vmsResult.information.Add("$($_.MessageData)") }
      else { $__vmsResult.output.Add($_) }
    }
  } catch { $__vmsResult.terminated = $true; $__vmsResult.errors.Add((__vmsError $_)) }
  $__vmsJson = ConvertTo-Json -InputObject $__vmsResult -Depth $__vmsDepth -Compress -EnumsAsStrings -WarningAction Ignore
  [Console]::Out.WriteLine($__vmsMark + [Convert]::ToBase64String($__vmsUtf8.GetBytes($__vmsJson)))
}
`;

export interface PwshErrorRecord {
  readonly message: string;
  /** FullyQualifiedErrorId */
  readonly id: string;
  readonly category: string;
  /** CategoryInfo as text: `InvalidArgument: (nope:String) [Get-VM], VirtualizationException` */
  readonly info: string;
  readonly target: string;
  readonly exceptionType: string;
  readonly recommendedAction: string | null;
}

export interface PwshResult<T = unknown> {
  readonly output: T[];
  readonly errors: PwshErrorRecord[];
  readonly warnings: string[];
  readonly verbose: string[];
  readonly debug: string[];
  readonly information: string[];
  /** The script was ended by an error (the last of `errors`). */
  readonly terminated: boolean;
}

export interface PwshSessionOptions {
  /** Default: the one findPwsh finds. */
  readonly executable?: string;
  readonly environment?: NodeJS.ProcessEnv;
  readonly cwd?: string;
}

interface ShellInside {
  readonly exitPromise: Promise<void>;
  readonly process: { readonly pid?: number; kill(signal: NodeJS.Signals): boolean };
}

export class PwshSession implements AsyncDisposable {
  readonly #shell: PowerShell;
  readonly #inside: ShellInside;
  #broken: string | undefined;
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(executable: string, options: PwshSessionOptions) {
    // The library lets this variable replace the executable it is given.
    const override = process.env['NODE_POWERSHELL'];
    delete process.env['NODE_POWERSHELL'];
    try {
      this.#shell = new PowerShell({
        executable,
        executableOptions: { '-NoProfile': true, '-NonInteractive': true },
        spawnOptions: {
          env: pwshEnvironment(options.environment ?? process.env),
          ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
        },
        throwOnInvocationError: false,
      });
    } finally {
      if (override !== undefined) process.env['NODE_POWERSHELL'] = override;
    }
    this.#inside = this.#shell as unknown as ShellInside;
    // Its end is ours to notice: without a handler it would end the Node process as an unhandled rejection.
    this.#inside.exitPromise.then(
      () => (this.#broken ??= 'PowerShell has ended'),
      (error: unknown) => (this.#broken ??= `PowerShell has ended (${error instanceof Error ? error.message : String(error)})`),
    );
  }

  static async start(options: PwshSessionOptions = {}): Promise<PwshSession> {
    const executable =
      options.executable ?? (await findPwsh(options.environment === undefined ? {} : { environment: options.environment })).path;
    const session = new PwshSession(executable, options);
    const text = Buffer.from(prelude, 'utf8').toString('base64');
    try {
      await session.#call(
        `. ([scriptblock]::Create([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String('${text}'))))`,
        startTimeoutMs,
      );
    } catch (error) {
      await session[Symbol.asyncDispose]();
      throw error;
    }
    return session;
  }

  get pid(): number | undefined {
    return this.#inside.process.pid;
  }

  /**
   * Runs a script with named parameters (its own `param(...)`) and gives back what it wrote to each stream. One at a time, in
   * order. Rejects when the time is over (the process is then killed), when the script ends the process, or when it has ended.
   */
  invoke<T = unknown>(
    script: string,
    parameters: { readonly [name: string]: WireValue } = {},
    options: { readonly timeoutMs?: number; readonly depth?: number } = {},
  ): Promise<PwshResult<T>> {
    const run = async (): Promise<PwshResult<T>> => {
      const mark = `vms${randomBytes(12).toString('hex')}:`;
      const encode = (text: string): string => Buffer.from(text, 'utf8').toString('base64');
      const line = `__vmsInvoke '${mark}' '${encode(script)}' '${encode(JSON.stringify(parameters))}' ${Math.trunc(options.depth ?? defaultDepth)}`;
      const stdout = await this.#call(line, options.timeoutMs ?? defaultTimeoutMs);
      const at = stdout.lastIndexOf(mark);
      if (at < 0) throw this.#fail('the script ended PowerShell or its answer was lost', 'OperationFailed');
      const body = /^[A-Za-z0-9+/=]+/.exec(stdout.slice(at + mark.length))?.[0] ?? '';
      return JSON.parse(Buffer.from(body, 'base64').toString('utf8')) as PwshResult<T>;
    };
    const result = this.#queue.then(run);
    this.#queue = result.catch(() => {});
    return result;
  }

  async #call(line: string, timeoutMs: number): Promise<string> {
    if (this.#broken !== undefined)
      throw new VmStorageError('InvalidState', `This PowerShell session is over: ${this.#broken}. Start another.`);
    let timer: NodeJS.Timeout | undefined;
    const overtime = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(this.#fail(`a script did not end within ${timeoutMs} ms and was killed`, 'OperationFailed'));
        this.#inside.process.kill('SIGKILL');
      }, timeoutMs);
    });
    const answer = this.#shell.invoke(line);
    answer.catch(() => {});
    try {
      const result = await Promise.race([answer, overtime]);
      if (result.stdout === undefined) throw this.#fail('the script ended PowerShell', 'OperationFailed');
      return result.stdout.toString('utf8');
    } catch (error) {
      if (error instanceof VmStorageError) throw error;
      throw this.#fail(
        error instanceof Error && error.message !== '' ? `PowerShell ended: ${error.message}` : 'the script ended PowerShell',
        'OperationFailed',
      );
    } finally {
      clearTimeout(timer);
      this.#shell.history.length = 0;
    }
  }

  #fail(reason: string, code: 'OperationFailed'): VmStorageError {
    this.#broken ??= reason;
    return new VmStorageError(code, `PowerShell: ${reason}.`);
  }

  /** Ends the process; resolves when it is gone. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#broken ??= 'it was closed';
    this.#inside.process.kill('SIGTERM');
    const kill = setTimeout(() => this.#inside.process.kill('SIGKILL'), disposePatienceMs);
    try {
      await this.#inside.exitPromise;
    } catch {
      // How it ended does not matter any more.
    } finally {
      clearTimeout(kill);
    }
  }
}
