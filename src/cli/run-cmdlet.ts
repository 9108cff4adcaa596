/** Runs one cmdlet for a person or a machine: binds, asks, shows, and says by the exit code how it went. */
import { createInterface } from 'node:readline/promises';
import type { Cmdlet } from '../../cmdlets/define.js';
import { definitionsHash } from '../../cmdlets/hash.js';
import { invoke, type InvocationSink } from '../client/invoke.js';
import { VmStorageError } from '../model/errors.js';
import { visibleMessage } from '../model/visible.js';
import { complain, print, printJson } from '../os/terminal.js';
import type { WireObject, WireProgress } from '../protocol/messages.js';
import { bindWords, type BoundCommand } from './bind.js';
import { ensureHost } from './host-process.js';
import { ProgressLine } from './progress-line.js';
import { renderObjects } from './render.js';
import { StreamedRows } from './streamed-rows.js';

/** A second Ctrl+C leaves at once; the move, if there is one, goes on. */
const interruptedExit = 130;

export interface JsonDocument {
  ok: boolean;
  output: WireObject[];
  errors: { message: string; code: string; errorId: string; category: string; target: string | null; recommendedAction: string | null }[];
  warnings: string[];
  verbose: string[];
  whatIf: string[];
  /** The last progress record, figures included. */
  progress: WireProgress | null;
}

async function askPerson(question: string): Promise<boolean> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const interrupted = new AbortController();
  terminal.on('SIGINT', () => interrupted.abort());
  try {
    const answer = await terminal.question(`${visibleMessage(question)}\n[Y] Yes  [N] No (default is "N"): `, {
      signal: interrupted.signal,
    });
    return /^y(es)?$/i.test(answer.trim());
  } catch (cause) {
    // Ctrl+C, or Ctrl+D, which ends the input.
    if (!interrupted.signal.aborted && !(cause instanceof Error && cause.name === 'AbortError')) throw cause;
    throw new VmStorageError('OperationStopped', 'Stopped at the question; it was not done.', { cause });
  } finally {
    terminal.close();
  }
}

/** Whether to go on: -WhatIf says and declines; -Confirm and what must be confirmed ask a person, and are errors without one. */
async function decide(kind: string, text: string, cmdlet: Cmdlet, command: BoundCommand, document: JsonDocument): Promise<boolean> {
  const { flags } = command;
  if (flags.whatif && kind === 'shouldProcess') {
    document.whatIf.push(text);
    if (!flags.json) print(`What if: ${visibleMessage(text)}`);
    return false;
  }
  const mustAsk = kind === 'shouldContinue' ? flags.confirm !== false : flags.confirm === true;
  if (!mustAsk) return true;
  if (!process.stdin.isTTY) {
    const how = 'Force' in cmdlet.parameters ? '-Force' : '-Confirm:$false';
    throw new VmStorageError('InvalidState', `${text} This must be confirmed, and nobody can be asked. Use ${how}.`);
  }
  return askPerson(text);
}

export async function runCmdlet(cmdlet: Cmdlet, words: readonly string[]): Promise<number> {
  const document: JsonDocument = { ok: true, output: [], errors: [], warnings: [], verbose: [], whatIf: [], progress: null };
  // Known before binding, so that a binding error is JSON too.
  let json = words.some((word) => /^--?json$/i.test(word));
  const line = new ProgressLine(process.stderr);
  let exitCode = 0;

  const note = (error: VmStorageError): void => {
    exitCode ||= error.exitCode;
    document.errors.push({
      message: error.message,
      code: error.code,
      errorId: error.errorId,
      category: error.category,
      target: error.target ?? null,
      recommendedAction: error.recommendedAction ?? null,
    });
    line.clear();
    const lead = error.message.startsWith(cmdlet.name) ? '' : `${cmdlet.name}: `;
    if (!json) complain(`${lead}${error.message}${error.recommendedAction === undefined ? '' : ` ${error.recommendedAction}`}`);
  };

  const stop = new AbortController();
  const giveUp = new AbortController();
  let interrupts = 0;
  const onInterrupt = (): void => {
    interrupts += 1;
    if (!cmdlet.changes) giveUp.abort();
    else if (interrupts === 1) {
      stop.abort();
      line.clear();
      if (!json) complain('Stopping. Press Ctrl+C again to leave without waiting.');
    } else process.exit(interruptedExit);
  };

  try {
    const command = bindWords(words, cmdlet);
    json = command.flags.json === true;
    await ensureHost();
    process.on('SIGINT', onInterrupt);
    // What goes on until somebody ends it is shown as it comes.
    const rows = command.bound['Watch'] === true ? new StreamedRows(process.stdout, json) : null;
    const sink: InvocationSink = {
      output: (value) => (rows ? rows.show(value) : void document.output.push(value)),
      error: note,
      text(stream, text) {
        line.clear();
        if (stream === 'warning') {
          document.warnings.push(text);
          if (!json) complain(`WARNING: ${text}`);
        } else if (stream === 'verbose') {
          document.verbose.push(text);
          if (!json && command.flags.verbose) complain(`VERBOSE: ${text}`);
        } else if (!json) complain(text);
      },
      progress(progress) {
        document.progress = progress;
        if (!json) line.show(progress);
      },
      ask: (kind, text) => {
        line.clear();
        return decide(kind, text, cmdlet, command, document);
      },
    };
    await invoke(
      {
        cmdlet: cmdlet.name,
        records: [{ parameterSet: command.parameterSet, bound: command.bound }],
        prefs: { verbose: command.flags.verbose === true || json, progress: true },
        client: 'cli',
        defs: definitionsHash(),
        stop: stop.signal,
        signal: giveUp.signal,
      },
      sink,
    );
  } catch (error) {
    if (giveUp.signal.aborted) return interruptedExit;
    note(
      error instanceof VmStorageError
        ? error
        : new VmStorageError('HostInternalError', error instanceof Error ? error.message : String(error), { cause: error }),
    );
  } finally {
    process.off('SIGINT', onInterrupt);
    line.clear();
  }

  document.ok = document.errors.length === 0;
  if (json) printJson(document, 2);
  else if (document.output.length > 0) print(renderObjects(document.output));
  return exitCode;
}
