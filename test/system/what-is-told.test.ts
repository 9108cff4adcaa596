/**
 * What a move that failed tells, in phases that have no worker's outcome yet: disk, path, cause, what holds and what to do; by the cmdlet and
 * by Get-VMStorageMove. Each second move works.
 */
import { execFile } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { WireObject, WireValue } from '../../src/protocol/messages.js';
import { BuiltInVm } from '../support/built-in-vm.js';
import { Instance, type Refusal } from '../support/instance.js';
import { filesBelow, reasonOf } from '../support/machine.js';
import { mountTmpfs } from '../support/mounts.js';
import { lacks } from '../support/requires.js';
import { until } from '../support/until.js';

const run = promisify(execFile);
const MIB = 2 ** 20;
const STAYS = 'The virtual machine stays on its source files.';

describe.skipIf(lacks('root'))('a move that cannot even begin', () => {
  let instance: Instance;
  let vm: BuiltInVm;
  const at = (...place: string[]): string => join(instance.folder, ...place);
  const pairs = (to: string, disks: readonly string[]): WireValue =>
    disks.map((SourceFilePath, index) => ({ SourceFilePath, DestinationFilePath: join(to, vm.leaves[index]!) }));
  const many = { set: 'NameMultipleDestinations' };
  const lastMove = (): Promise<WireObject | undefined> =>
    instance.run('Get-VMStorageMove', { Name: ['told'], Last: 1 }).then(([move]) => move);

  beforeAll(async () => {
    instance = await Instance.start('told', (made) => BuiltInVm.environment(made));
    vm = await BuiltInVm.create(instance, { name: 'told', folder: at('a'), diskBytes: [16 * MIB, 8 * MIB] });
  });
  afterAll(async () => {
    await instance?.[Symbol.asyncDispose]();
  });

  it('for want of room for the file of its second disk says so of that disk', async () => {
    // As many bytes as are wanted, and an inode for one file.
    await using few = await mountTmpfs(at('few'), 'size=300m,nr_inodes=2');
    const disks = await vm.diskPaths();
    const refusal: Refusal = await instance.refusal('Move-VMStorage', { Name: 'told', Vhds: pairs(few.path, disks) }, many);
    const target = join(few.path, vm.leaves[1]!);
    const why = `The destination of disk 1 cannot be made: Cannot create '${target}': No space left on device. ${STAYS}`;
    expect(refusal).toMatchObject({ code: 'NoSpace', message: expect.stringContaining(why) as string });
    expect(await lastMove()).toMatchObject({
      ...{ Phase: 'prepare', Outcome: 'Failed', ErrorCode: 'NoSpace' },
      ...{ FailedDisk: 1, FailedPath: target, Message: why },
    });
    expect(filesBelow(few.path)).toEqual([]);
    await run('mount', ['-o', 'remount,nr_inodes=16', few.path]);
    await instance.run('Move-VMStorage', { Name: 'told', Vhds: pairs(few.path, disks) }, many);
    await instance.run('Move-VMStorage', { Name: 'told', Vhds: pairs(at('a'), await vm.diskPaths()) }, many);
  });

  it.each([
    // The record of the move has its page and the same again to be replaced in; the journal needs three.
    { pages: 3, why: /Cannot write the journal '(.*?)': No space left on device\. The virtual machine stays on its source files\./ },
    // The journal is there, and nothing else finds room any more: neither its receipt nor the record that the move is undone.
    {
      pages: 4,
      why: /The journal of the move '(.*?)' could not be written: No space left on device\. The virtual machine stays .* the host goes on trying/,
    },
  ])('for want of room for its journal ($pages pages) says so, and names the journal', async ({ pages, why }) => {
    const { movesFolder } = instance.paths;
    await mkdir(movesFolder, { recursive: true });
    await using moves = await mountTmpfs(movesFolder, `size=${4 * pages}k,mode=700`);
    const disks = (await vm.diskPaths()).slice(0, 1);
    const refusal = await instance.refusal('Move-VMStorage', { Name: 'told', Vhds: pairs(at('b'), disks) }, many);
    const journal = instance.paths.journal(vm.id);
    expect(refusal.code).toBe('NoSpace');
    expect(why.exec(refusal.message)?.[1], refusal.message).toBe(journal);
    expect(await lastMove()).toMatchObject({ Outcome: 'Failed', ErrorCode: 'NoSpace', FailedDisk: null, FailedPath: journal });
    await run('mount', ['-o', 'remount,size=1m', moves.path]);
    await until('a second move is taken', async () => {
      const told = await reasonOf(instance.run('Move-VMStorage', { Name: 'told', Vhds: pairs(at('b'), disks) }, many));
      if (/being moved already|is not over/.test(told)) return undefined; // the first one is being undone
      expect(told).toBe('it succeeded');
      return true;
    });
    expect((await vm.diskPaths())[0]).toBe(at('b', vm.leaves[0]!));
    await instance.run('Move-VMStorage', { Name: 'told', Vhds: pairs(at('a'), [at('b', vm.leaves[0]!)]) }, many);
    await until('nothing is left to do', () => filesBelow(movesFolder).length === 0 || undefined);
  });
});
