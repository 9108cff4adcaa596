/** What src/native/binding.ts declares is what the addon has: nothing less, nothing more, of the same types. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { native } from '../../src/native/binding.js';
import { checkoutFolder } from '../../src/powershell/checkout.js';
import { declaredIn } from '../support/declared-shapes.js';

const generated = declaredIn(join(checkoutFolder(), 'dist/native/binding.d.ts'));
const written = declaredIn(join(checkoutFolder(), 'src/native/binding.ts'));

/** Handles are interfaces on our side, classes of the addon. */
const handles = ['NativeEngine', 'NativeFolder', 'NativeGuest'] as const;
const { NativeModule: functions = {}, ...ours } = written.objects;
const calls = { ...written.calls, ...functions };
for (const handle of handles) for (const [name, shape] of Object.entries(ours[handle] ?? {})) calls[`${handle}.${name}`] = shape;

describe('the addon', () => {
  it('has the functions and methods that are declared, with their parameters and results', () => {
    expect(Object.keys(generated.calls).length).toBeGreaterThan(15);
    expect(calls).toEqual(generated.calls);
  });

  it('takes and gives the objects that are declared', () => {
    // NativeImageHash is written where it is returned.
    const names = Object.keys(generated.objects).filter((name) => name !== 'NativeImageHash');
    expect(names).toContain('NativeServedDisk');
    for (const name of names) expect(ours[name], name).toEqual(generated.objects[name]);
  });

  it('exports just these when it is loaded', () => {
    const module = native() as unknown as Record<string, unknown>;
    const top = [...new Set(Object.keys(generated.calls).map((name) => name.split('.')[0]!))];
    expect(Object.keys(module).sort()).toEqual(top.sort());
    for (const handle of handles) {
      const type = module[handle] as { prototype: object };
      const members = [...Object.getOwnPropertyNames(type), ...Object.getOwnPropertyNames(type.prototype)].filter(
        (name) => !['constructor', 'prototype', 'name', 'length', 'arguments', 'caller'].includes(name),
      );
      const expected = Object.keys(generated.calls).filter((name) => name.startsWith(`${handle}.`));
      expect(members.map((name) => `${handle}.${name}`).sort()).toEqual(expected.sort());
    }
  });
});
