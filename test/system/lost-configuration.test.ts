/** A machine whose configuration is gone: said, in nobody's way, and forgotten when it is told to be. */
import { existsSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Instance } from '../support/instance.js';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

let instance: Instance;
beforeEach(async () => {
  instance = await Instance.start('lost-configuration');
});
afterEach(() => instance[Symbol.asyncDispose]());

it.each([
  { what: 'deleted', code: 'ObjectNotFound', harm: async (file: string) => rm(file) },
  { what: 'overwritten', code: 'ImageCorrupt', harm: async (file: string) => writeFile(file, 'precious') },
])('is forgotten by its id when its file was $what; what is there stays', async ({ code, harm }) => {
  const folder = join(instance.folder, 'vms');
  await mkdir(folder);
  await instance.run('New-VM', { Name: 'good', Path: folder });
  const [lost] = await instance.run('New-VM', { Name: 'lost', Path: folder });
  const id = String(lost!['Id']);
  const file = join(folder, 'Virtual Machines', `${id}.vmcx`);
  await instance.stopHost();
  await harm(file);
  const there = existsSync(file);
  await instance.startHost();

  const before = await instance.collect('Get-VM', {});
  expect(before.output.map((vm) => vm['Name'])).toEqual(['good']);
  expect(before.errors.map((error) => error.code)).toEqual([code]);
  expect(before.errors[0]!.message).toContain(`'${file}' cannot be used`);
  expect(before.errors[0]!.message).toContain(`Remove-VM -Name ${id}`);

  expect((await instance.collect('Remove-VM', { Name: [id.toUpperCase()] })).errors).toEqual([]);
  expect(await instance.collect('Get-VM', {})).toMatchObject({ output: [{ Name: 'good' }], errors: [] });
  expect(existsSync(file)).toBe(there);
  await instance.stopHost();
  await instance.startHost();
  expect((await instance.collect('Get-VM', {})).errors).toEqual([]);
  expect(await instance.refusal('Remove-VM', { Name: [id] })).toMatchObject({ code: 'ObjectNotFound' });
});
