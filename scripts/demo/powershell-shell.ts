/** The demo's cmdlets by the VMStorage module in one PowerShell session. A long cmdlet runs as the module's own job (-AsJob). */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { findPwsh } from '../../src/powershell/find-pwsh.js';
import { PwshSession, type PwshResult } from '../../src/powershell/session.js';
import { repository } from '../../test/support/guest-kernel.js';
import { childrenOf } from '../../test/support/leftovers.js';
import {
  CmdletFailure,
  CommandLineShell,
  type CmdletOutput,
  type CmdletParameters,
  type CmdletShell,
  type RunningCmdlet,
} from './cmdlet-shell.js';

const modules = join(repository, 'dist/powershell');
/** Stop-VM waits for the guest, New-VHD of a fixed disk allocates it. */
const CMDLET_LIMIT_MS = 5 * 60_000;

const EXIT_LIMIT_MS = 5000;

const importModule = `
param([string]$modules)
$ErrorActionPreference = 'Stop'
Import-Module -Name (Join-Path $modules 'VMStorage')
$command = Get-Command -Name 'Move-VMStorage' -Module 'VMStorage'
@{ version = $PSVersionTable.PSVersion.ToString(); host = $Host.Name; kind = "$($command.CommandType)"; dll = $command.DLL }
`;
/** 64-bit numbers as text: JSON's would lose digits. */
const runCmdlet = `
param([string]$cmdlet, $parameters, [string[]]$properties)
$ErrorActionPreference = 'Stop'
& $cmdlet @parameters | ForEach-Object {
  $one = @{}
  foreach ($name in $properties) {
    $value = $_.$name
    $one[$name] = if ($value -is [long] -or $value -is [ulong] -or $value -is [guid]) { "$value" } else { $value }
  }
  $one
}
`;
const startCmdlet = `
param([string]$cmdlet, $parameters)
$ErrorActionPreference = 'Stop'
$global:demoJob = & $cmdlet @parameters -AsJob
@{ id = $global:demoJob.Id }
`;
const isJobRunning = `@{ running = $global:demoJob.State -in 'NotStarted', 'Running', 'Stopping' }`;
const endOfJob = `
$null = Receive-Job -Job $global:demoJob -Wait -ErrorAction SilentlyContinue
$child = $global:demoJob.ChildJobs[0]
@{ state = "$($global:demoJob.State)"; reason = "$($child.JobStateInfo.Reason.Message)"; errors = @($child.Error | ForEach-Object { "$_" }) }
Remove-Job -Job $global:demoJob -Force
`;

class PowerShellShell implements CmdletShell {
  constructor(
    private readonly session: PwshSession,
    readonly powershell: { readonly version: string; readonly host: string },
    /** The cmdlets are compiled ones from our DLL. */
    private readonly compiled: boolean,
  ) {}

  /** A compiled cmdlet of our DLL, in a process without children: nobody else can speak to the host for it. */
  speaksItself(): Promise<boolean | null> {
    const { pid } = this.session;
    if (!this.compiled || pid === undefined) return Promise.resolve(false);
    const children = childrenOf(pid);
    return Promise.resolve(children === null ? null : children.length === 0);
  }

  async run(cmdlet: string, parameters: CmdletParameters, properties: readonly string[] = []): Promise<CmdletOutput[]> {
    const result = await this.session.invoke<CmdletOutput>(
      runCmdlet,
      { cmdlet, parameters, properties: [...properties] },
      { timeoutMs: CMDLET_LIMIT_MS },
    );
    return outputOf(cmdlet, result);
  }

  async start(cmdlet: string, parameters: CmdletParameters): Promise<RunningCmdlet> {
    outputOf(cmdlet, await this.session.invoke(startCmdlet, { cmdlet, parameters }));
    return {
      isRunning: async () => outputOf(cmdlet, await this.session.invoke<{ running: boolean }>(isJobRunning))[0]?.running === true,
      result: async () => {
        const [end] = outputOf(
          cmdlet,
          await this.session.invoke<{ state: string; reason: string; errors: string[] }>(endOfJob, {}, { timeoutMs: CMDLET_LIMIT_MS }),
        );
        if (end?.state !== 'Completed' || end.errors.length > 0) {
          throw new CmdletFailure(
            cmdlet,
            `${[end?.reason ?? '', ...(end?.errors ?? [])].filter((text) => text !== '').join('; ')} (its job is ${end?.state ?? 'lost'})`,
          );
        }
      },
    };
  }

  /** Lets PowerShell end by itself first: a killed one leaves its pipe in the temporary folder. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.session.invoke('exit 0', {}, { timeoutMs: EXIT_LIMIT_MS }).catch(() => undefined); // that it ended is what was asked
    await this.session[Symbol.asyncDispose]();
  }
}

function outputOf<T>(cmdlet: string, { output, errors, terminated }: PwshResult<T>): T[] {
  if (terminated || errors.length > 0) throw new CmdletFailure(cmdlet, errors.map(({ message, id }) => `${message} (${id})`).join('; '));
  return output;
}

/** PowerShell with the module, or the vmstorage command where there is none; says which and why. */
export async function openPowerShell(environment: NodeJS.ProcessEnv, say: (text: string) => void): Promise<CmdletShell> {
  if (!existsSync(join(modules, 'VMStorage'))) {
    say('there is no PowerShell module: no PowerShell 7.6 was found at set-up');
    return new CommandLineShell(environment);
  }
  const found = await findPwsh({ environment, report: say }).catch((error: Error) => say(`there is no PowerShell: ${error.message}`));
  if (!found) return new CommandLineShell(environment);
  const session = await PwshSession.start({ executable: found.path, environment: { ...environment, DOTNET_EnableDiagnostics: '0' } });
  try {
    const [facts] = outputOf(
      'Import-Module',
      await session.invoke<{ version: string; host: string; kind: string; dll: string }>(importModule, { modules }),
    );
    if (!facts) throw new Error('Import-Module VMStorage: PowerShell did not say what it loaded.');
    const { version, host, kind, dll } = facts;
    return new PowerShellShell(session, { version, host }, kind === 'Cmdlet' && dll.startsWith(modules));
  } catch (error) {
    await session[Symbol.asyncDispose]();
    throw error;
  }
}
