/** What a process of its own sees of files, whatever they are called. */
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { mountOf, outsideLook, parseMountPoints } from '../../../src/os/outside-look.js';
import { makeScratch } from '../../support/scratch.js';

test('files that are there, and why others are not', async () => {
  await using scratch = await makeScratch('look');
  const at = (name: string): string => join(scratch.path, name);
  const strange = ['plain', "it's", 'with: colon', 'two\nlines', '-n', '%n', 'ünïcode', '$(touch x)'];
  for (const name of strange) await writeFile(at(name), '');
  await mkdir(at('folder'));
  await symlink(at('nowhere'), at('link'));
  const missing = {
    [at('none: at all')]: 'No such file or directory',
    [at('link')]: 'No such file or directory',
    [at('plain/x')]: 'Not a directory',
  };
  const paths = [...strange.map(at), at('folder'), ...Object.keys(missing)];
  const seen = Object.fromEntries(await outsideLook()([...paths, at('plain')]));
  expect(seen).toEqual({
    ...Object.fromEntries(paths.map((path) => [path, { is: 'there' }])),
    ...Object.fromEntries(Object.entries(missing).map(([path, why]) => [path, { is: 'missing', why }])),
  });
  expect(await outsideLook()([])).toEqual(new Map());
});

test('more files than a process can be asked for at a time', async () => {
  await using scratch = await makeScratch('look-many');
  const paths = Array.from({ length: 600 }, (_, n) => join(scratch.path, 'x'.repeat(200), `${n}`));
  const seen = await outsideLook()([...paths, scratch.path]);
  expect(seen.get(scratch.path)).toEqual({ is: 'there' });
  expect([...seen.values()].filter((one) => one.is === 'missing')).toHaveLength(600);
});

test('a path is of the mount that is nearest above it', () => {
  const mounts = parseMountPoints('22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 0:3 / /srv/with\\040space rw - tmpfs tmpfs rw\n');
  expect(mounts).toEqual(['/', '/srv/with space']);
  expect(['/srv/with space/a', '/srv/with space', '/srv/with spaces', '/a'].map((path) => mountOf(path, mounts))).toEqual([
    '/srv/with space',
    '/srv/with space',
    '/',
    '/',
  ]);
});
