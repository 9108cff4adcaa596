/** Small durable files and bounded logs. */
import { mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { boundLog } from '../../../src/os/bounded-logs.js';
import { hasCode } from '../../../src/os/errno.js';
import { systemFiles, temporaryName } from '../../../src/os/files.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vmstorage-files-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe('small durable files', () => {
  it('are replaced whole, readable by the owner only, and leave no temporary name', async () => {
    const file = join(folder, 'a.json');
    await systemFiles.replace(file, 'one');
    await systemFiles.replace(file, 'two');
    expect(await readFile(file, 'utf8')).toBe('two');
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await readdir(folder)).toEqual(['a.json']);
  });

  it('that must be new never replace what is there, and leave nothing when refused', async () => {
    const file = join(folder, 'a.json');
    await writeFile(file, 'theirs');
    await expect(systemFiles.createExclusively(file, 'ours')).rejects.toSatisfy((error) => hasCode(error, 'EEXIST'));
    expect(await readFile(file, 'utf8')).toBe('theirs');
    expect(await readdir(folder)).toEqual(['a.json']);
  });

  it('are not written through a link planted at the temporary name', async () => {
    const [file, victim] = [join(folder, 'a.json'), join(folder, 'victim')];
    await writeFile(victim, 'untouched');
    await symlink(victim, temporaryName(file));
    await expect(systemFiles.replace(file, 'ours')).rejects.toSatisfy((error) => hasCode(error, 'ELOOP'));
    expect(await readFile(victim, 'utf8')).toBe('untouched');
  });

  it('take over the temporary name a crash left, and removal deletes it too', async () => {
    const file = join(folder, 'a.json');
    await writeFile(temporaryName(file), 'half of some');
    await systemFiles.replace(file, 'whole');
    await writeFile(temporaryName(file), 'half of some');
    await systemFiles.removeDurably(file);
    await systemFiles.removeDurably(file);
    expect(await readdir(folder)).toEqual([]);
  });

  it('in new folders: made folders are told, outermost first, and those that were there are not', async () => {
    expect(await systemFiles.makeFolders(join(folder, 'a', 'b'))).toEqual([join(folder, 'a'), join(folder, 'a', 'b')]);
    expect(await systemFiles.makeFolders(join(folder, 'a', 'b'))).toEqual([]);
    await writeFile(join(folder, 'file'), '');
    await expect(systemFiles.makeFolders(join(folder, 'file', 'c'))).rejects.toSatisfy((error) => hasCode(error, 'ENOTDIR', 'EEXIST'));
  });
});

describe('a log', () => {
  it('beyond its size keeps its newest part beside it and goes on from nothing', async () => {
    const file = join(folder, 'console.log');
    await writeFile(file, `${'old '.repeat(100)}newest`);
    expect(await boundLog(file, 16)).toBe(true);
    expect(await readFile(file, 'utf8')).toBe('');
    expect(await readFile(`${file}.1`, 'utf8')).toBe('d old old newest'.slice(-16));
    expect(await boundLog(file, 16)).toBe(false);
  });
});
