/**
 * A cmdlet asked by a process of another user, by root's grace: the modules are loaded before the rights are given up, so that the checkout
 * need not be his to read. Nothing of root is left of it when it connects.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import type { Collected } from '../../src/client/invoke.js';
import type { WireValue } from '../../src/protocol/messages.js';
import { repository } from './guest-kernel.js';

export interface AsUser {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups. */
  readonly groups?: readonly number[];
}

export interface Asked {
  readonly pid: number;
  readonly output: Collected['output'];
  readonly questions: readonly string[];
  /** Of the records, and the one that ended the invocation. */
  readonly errors: readonly { readonly code: string; readonly message: string }[];
}

const SCRIPT = `
const { invoke } = await import(process.argv[1] + '/dist/src/client/invoke.js');
const { native } = await import(process.argv[1] + '/dist/src/native/binding.js');
native();
const { uid, gid, groups, cmdlet, set, bound, yes, environment } = JSON.parse(process.argv[2]);
Object.assign(process.env, environment);
process.setgroups(groups); process.setgid(gid); process.setuid(uid);
const said = { pid: process.pid, output: [], questions: [], errors: [] };
const failed = ({ code, message }) => void said.errors.push({ code, message });
await invoke({ cmdlet, records: [{ parameterSet: set, bound }], cwd: '/' }, {
  output: (value) => void said.output.push(value), error: failed, text() {}, progress() {},
  ask: (kind, text) => { said.questions.push(text); return yes; },
}).catch(failed);
process.stdout.write(JSON.stringify(said));
`;

/** `yes`: the answer to every question; false is what -WhatIf says. */
export async function askAs(
  user: AsUser,
  home: string,
  cmdlet: string,
  bound: { readonly [name: string]: WireValue },
  { set = '', yes = true, environment = {} }: { set?: string; yes?: boolean; environment?: { readonly [name: string]: string } } = {},
): Promise<Asked> {
  const asked = JSON.stringify({
    ...{ uid: user.uid, gid: user.gid, groups: user.groups ?? [] },
    ...{ cmdlet, set, bound, yes, environment: { VMSTORAGE_HOME: home, ...environment } },
  });
  const child = spawn(process.execPath, ['--input-type=module', '--eval', SCRIPT, join(repository), asked], {
    cwd: '/',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  let complaints = '';
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (complaints += chunk.toString()));
  await new Promise((resolve) => child.once('close', resolve));
  if (said === '') throw new Error(`the process of the user ended without an answer: ${complaints}`);
  return JSON.parse(said) as Asked;
}
