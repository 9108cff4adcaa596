#!/usr/bin/env node
/**
 * vmstorage: the cmdlets without PowerShell, the host, and `serve`. yargs knows the commands and their help; the words of a cmdlet
 * are bound by PowerShell's rules (bind.ts), which are not yargs'.
 */
import { fileURLToPath } from 'node:url';
import yargs, { type Argv } from 'yargs';
import { placementIn, type Cmdlet, type Parameter } from '../../cmdlets/define.js';
import { cmdlets } from '../../cmdlets/index.js';
import { hostAddress } from '../client/address.js';
import { errorTable, VmStorageError } from '../model/errors.js';
import { hasHidden, visibleLine } from '../model/visible.js';
import { complain, print, printJson } from '../os/terminal.js';
import { asksForHelp } from './bind.js';
import { runInForeground } from './foreground.js';
import { hostGuests, readLimit } from './host-guests.js';
import { askHost, awaitHost, hostProgram, startHost, stopHost } from './host-process.js';
import { offers } from './offers.js';
import { STOP_LIMIT_SECONDS } from '../protocol/host-commands.js';
import { runCmdlet } from './run-cmdlet.js';
import { WIZARD_HELP } from './wizard-help.js';

const all = Object.values(cmdlets) as unknown as readonly Cmdlet[];
const serveProgram = fileURLToPath(new URL('../worker/serve.js', import.meta.url));
const usageExit = 2;
/** A host that was started together with this command, or is being started again. */
const hostComesMs = 60_000;
/** With which the script of `vmstorage completion` asks. */
const COMPLETE = '--get-yargs-completions';

function valueName({ type }: Parameter): string {
  if (type.kind === 'switch') return '';
  const name = type.enumType ? Object.keys(type.enumType.values).join('|') : type.kind;
  return ` <${name}${type.array ? '...' : ''}>`;
}

/** One line per parameter set, as Get-Command -Syntax has them. */
function syntax(cmdlet: Cmdlet): string {
  const lines = cmdlet.sets.flatMap((set) => {
    const rank = (one: Parameter): number => placementIn(one, set)?.position ?? (placementIn(one, set)?.mandatory ? 100 : 200);
    const inOrder = Object.entries(cmdlet.parameters).sort(([, a], [, b]) => rank(a) - rank(b));
    const parts = inOrder.flatMap(([name, parameter]) => {
      const placement = placementIn(parameter, set);
      if (placement === undefined || name === 'AsJob') return [];
      if (parameter.type.kind === 'object' && placement.mandatory) return [undefined];
      if (parameter.notImplemented || parameter.type.kind === 'object') return [];
      const label = placement.position === undefined ? `-${name}` : `[-${name}]`;
      const text = `${label}${valueName(parameter)}`;
      return [placement.mandatory ? text : `[${text}]`];
    });
    // A set that begins with an object of the pipeline is PowerShell's alone.
    return parts.includes(undefined) ? [] : [`  ${cmdlet.name} ${parts.join(' ')}`];
  });
  return lines.join('\n');
}

function describe(cmdlet: Cmdlet, command: Argv): Argv {
  let described = command.usage(`${cmdlet.synopsis}\n\n${syntax(cmdlet)}`);
  for (const [name, parameter] of Object.entries(cmdlet.parameters)) {
    if (parameter.type.kind === 'object' || name === 'AsJob' || parameter.notImplemented) continue;
    described = described.option(name, {
      describe: parameter.help,
      type: parameter.type.kind === 'switch' ? 'boolean' : 'string',
      ...(parameter.aliases.length === 0 ? {} : { alias: [...parameter.aliases] }),
    });
  }
  if (cmdlet.changes) {
    described = described
      .option('WhatIf', { describe: 'Says what would be done and does nothing.', type: 'boolean' })
      .option('Confirm', { describe: 'Asks before it does anything.', type: 'boolean' });
  }
  return described
    .version(false)
    .option('Verbose', { describe: 'Shows verbose messages.', type: 'boolean' })
    .option('json', { describe: 'Prints one JSON document.', type: 'boolean' })
    .epilogue(
      `${cmdlet.description}\n\nExit code 0: done; 2: wrong parameters; otherwise the number of the error. In PowerShell: Get-Help ${cmdlet.name} -Full.`,
    );
}

/** `get-vm` is Get-VM, and `-?` is --help; everything else stays as it was typed. */
function normalise(words: readonly string[]): { words: string[]; rest: string[] } {
  const [first, ...rest] = words;
  const cmdlet = first === undefined ? undefined : all.find((one) => one.name.toLowerCase() === first.toLowerCase());
  if (cmdlet === undefined) return { words: [...words], rest };
  // yargs sees the name alone: it would take -Version or a value for its own.
  return { words: asksForHelp(rest) ? [cmdlet.name, '--help'] : [cmdlet.name], rest };
}

async function hostCommand(action: string, json: boolean, limit: unknown): Promise<number> {
  const say = (text: string, document: object): void => (json ? printJson(document) : print(visibleLine(text)));
  const limitSeconds = readLimit(action, limit);
  const address = hostAddress();
  switch (action) {
    case 'start': {
      const { started, greeting } = await startHost();
      say(`The VM storage host ${started ? 'was started' : 'runs already'} (process ${greeting.pid}) at ${address}.`, {
        ok: true,
        started,
        pid: greeting.pid,
        address,
      });
      return 0;
    }
    case 'stop': {
      const stopped = await stopHost();
      say(stopped ? 'The VM storage host was stopped; virtual machines go on.' : `No VM storage host runs at ${address}.`, {
        ok: true,
        stopped,
        address,
      });
      return 0;
    }
    case 'status': {
      const greeting = await askHost(address);
      say(`The VM storage host (version ${greeting.host}, process ${greeting.pid}) runs at ${address}.`, {
        ok: true,
        pid: greeting.pid,
        version: greeting.host,
        address,
      });
      return 0;
    }
    case 'stop-guests':
    case 'start-guests':
      // Never started here: what a host starts would belong to the unit that runs this command, and end with it.
      await awaitHost(hostComesMs);
      return hostGuests(action, limitSeconds, json);
    default:
      return runInForeground(hostProgram, []);
  }
}

/** With --json an error is a document as well. */
function hostRefused(error: unknown, json: boolean): number {
  if (!json || !(error instanceof VmStorageError)) throw error;
  const { code, message } = error;
  printJson({ ok: false, error: { code, message } });
  return error.exitCode;
}

/** Loaded when it is asked for: a cmdlet needs none of it. */
async function openWizard(port: unknown, browser: boolean): Promise<number> {
  const { runWizard } = await import('./wizard-command.js');
  return runWizard({ port, browser });
}

/** yargs makes a list of an option that is given twice, whatever its type says. */
function serveCommand(words: readonly string[], args: { readonly [option: string]: unknown }): Promise<number> {
  const { image, nbd: socket } = args;
  const switches = ['read-only', 'allow-foreign-content'].filter((name) => args[name] !== undefined && args[name] !== false);
  if (typeof image !== 'string' || typeof socket !== 'string' || switches.some((name) => args[name] !== true)) {
    throw new VmStorageError('InvalidParameter', 'serve takes one image, one --nbd, and each of its switches at most once.');
  }
  // yargs takes every value but `true` for false: --read-only=yes would serve for writing.
  const unclear = words.find((word) => /^--?(read-only|allow-foreign-content)=/.test(word) && !/=(true|false)$/.test(word));
  if (unclear !== undefined) {
    const alone = unclear.slice(0, unclear.indexOf('='));
    throw new VmStorageError('InvalidParameter', `${unclear} is neither true nor false. Use ${alone} alone.`);
  }
  return runInForeground(serveProgram, ['--nbd', socket, ...switches.map((name) => `--${name}`), '--', image], { tied: true });
}

async function main(argv: readonly string[]): Promise<number> {
  // yargs would take what is typed so far for a command, and print at every Tab that it knows none of that name.
  if (argv[0] === COMPLETE) {
    // A Tab never fails, and offers nothing that cannot be seen as it is.
    for (const offer of await offers(argv.slice(1), all).catch(() => [])) if (!hasHidden(offer)) print(offer);
    return 0;
  }
  const { words, rest } = normalise(argv);
  let exitCode = 0;
  const setExit = async (code: Promise<number>): Promise<void> => {
    exitCode = await code;
  };
  let parser = yargs([...words])
    .scriptName('vmstorage')
    .usage('$0 <cmdlet> [parameters]\n\nMoves the storage of running virtual machines, with the cmdlets of Hyper-V.')
    .epilogue(
      "Root may ask the host of the system for everything, and so may members of the group 'vmstorage'; those of 'vmstorage-readers' may look (docs/security.md).",
    )
    .parserConfiguration({
      'short-option-groups': false,
      'camel-case-expansion': false,
      'dot-notation': false,
      'boolean-negation': false,
      'parse-numbers': false,
    })
    // An option that is not known runs nothing, wherever it stands.
    .strict()
    .recommendCommands()
    .demandCommand(1, 'Name a cmdlet or a command; vmstorage --help lists them.')
    .exitProcess(false)
    .help()
    .alias('help', ['h', '?'])
    .version()
    .wrap(process.stdout.isTTY ? Math.min(120, process.stdout.columns || 80) : 120)
    .completion('completion', 'Prints a completion script for the shell.');
  for (const cmdlet of all) {
    parser = parser.command(
      cmdlet.name,
      cmdlet.synopsis,
      (command) => describe(cmdlet, command),
      () => setExit(runCmdlet(cmdlet, rest)),
    );
  }
  parser = parser
    .command(
      'host <action>',
      'Starts, stops, shows or runs the VM storage host.',
      (command) =>
        command
          .positional('action', {
            choices: ['start', 'stop', 'status', 'run', 'stop-guests', 'start-guests'] as const,
            describe:
              'run: in the foreground. stop-guests: shuts down every guest by its AutomaticStopAction, before the system stops. ' +
              'start-guests: starts those again, by their AutomaticStartAction.',
            demandOption: true,
          })
          .option('limit', {
            type: 'string',
            requiresArg: true,
            describe: `Of stop-guests: seconds until a guest that does not shut down is turned off. Default: ${STOP_LIMIT_SECONDS.default}.`,
          })
          .option('json', { type: 'boolean', describe: 'Prints one JSON document.' }),
      (args) =>
        setExit(hostCommand(args.action, args.json === true, args.limit).catch((error: unknown) => hostRefused(error, args.json === true))),
    )
    .command(
      'serve <image>',
      'Serves a disk file to NBD clients until Ctrl+C.',
      (command) =>
        command
          .positional('image', { type: 'string', describe: 'The disk file.', demandOption: true })
          .option('nbd', { type: 'string', describe: 'Unix socket to listen on.', demandOption: true, requiresArg: true })
          .option('read-only', { type: 'boolean', describe: 'Never writes to the file.' })
          .option('allow-foreign-content', {
            type: 'boolean',
            describe: 'Serves a raw disk whose content is another format or an archive.',
          })
          // A misspelt --read-only must not serve a disk for writing.
          .strict(),
      (args) => setExit(serveCommand(words, args)),
    )
    .command(
      'wizard',
      'Opens the Move Wizard in a browser.',
      (command) =>
        command
          .usage(`$0 wizard [--port <number>] [--no-browser]\n\n${WIZARD_HELP}`)
          .option('port', { type: 'string', requiresArg: true, describe: 'Port of 127.0.0.1 to listen on. Default: one that is free.' })
          .option('no-browser', { type: 'boolean', describe: 'Only prints the link.' })
          .strict(),
      (args) => setExit(openWizard(args.port, args['no-browser'] !== true)),
    )
    .fail((message, error) => {
      throw error ?? new VmStorageError('InvalidParameter', message);
    });
  await parser.parseAsync();
  return exitCode;
}

/** Node keeps a failed write of console.log to itself: a script would take half a document, and exit code 0, for the answer. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') return; // head, less: the reader has seen enough
  complain(`vmstorage: the output could not be written: ${error.message}`);
  process.once('exit', () => (process.exitCode ||= errorTable.StorageFailure[0]));
});

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  complain(`vmstorage: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = error instanceof VmStorageError ? error.exitCode : usageExit;
}
