/** Every method of the host says whether it reads or changes: one without a role is refused to all but administrators, and fails here. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { cmdlets } from '../../../cmdlets/index.js';
import { accessOf, methodAccess } from '../../../src/host/methods/access.js';
import * as hostCommands from '../../../src/protocol/host-commands.js';
import * as subscription from '../../../src/protocol/subscription.js';
import { checkoutFolder } from '../../../src/powershell/checkout.js';

/** Names of commands that are no cmdlets begin so (src/protocol). */
const commands = ([...Object.values(hostCommands), ...Object.values(subscription)] as unknown[]).filter(
  (value): value is string => typeof value === 'string' && value.startsWith('host '),
);

it('is of every cmdlet and every command of the host, and of nothing else', () => {
  expect(Object.keys(methodAccess).sort()).toEqual([...Object.keys(cmdlets), ...commands].sort());
});

it('is as the cmdlets say themselves: what supports -WhatIf changes, and only that', () => {
  for (const [name, { changes }] of Object.entries(cmdlets))
    expect(`${name}: ${accessOf(name)}`).toBe(`${name}: ${changes ? 'asks' : 'reads'}`);
});

it('is that of an administrator for what is not in the table', () => {
  for (const method of ['host anything', 'constructor', '__proto__', '']) expect(accessOf(method)).toBe('acts');
});

it('is what the host composes: no method is served that is added elsewhere', () => {
  const text = readFileSync(join(checkoutFolder(), 'src/host/compose.ts'), 'utf8');
  const composed = /methods: gated\(\s*\{([^}]*)\}/.exec(text)![1]!.match(/\.\.\.\w+/g);
  // A further source of methods has to be looked at here, and its names in the table above.
  expect(composed).toEqual(['...hostMethods', '...migration', '...hostCommands', '...watchHost']);
});
