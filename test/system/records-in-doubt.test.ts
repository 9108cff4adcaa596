/**
 * A record of a move that is damaged or lost while nobody serves: the guest waits, nothing is deleted, and a person says which files count.
 *
 * ```text
 * move ─ COMMITTED ─ host and worker are killed ─ a record is spoiled ─ host ─ Get-VM, -WhatIf ─ Resolve-VMStorageMove -Force ─ every byte
 * ```
 */
import { copyFileSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { invoke } from '../../src/client/invoke.js';
import type { WireValue } from '../../src/protocol/messages.js';
import { BuiltInVm } from '../support/built-in-vm.js';
import { Instance } from '../support/instance.js';
import { memoryFolder } from '../support/memory-folder.js';
import { filesBelow, reasonOf } from '../support/machine.js';
import { until } from '../support/until.js';

const MIB = 2 ** 20;
/** A change of one byte that leaves the record readable as JSON. */
function flipByteOf(file: string): void {
  const content = readFileSync(file);
  const at = content.indexOf('"state": "');
  expect(at).toBeGreaterThan(0);
  content[at + '"state": "'.length]! ^= 1;
  writeFileSync(file, content);
}

const older = (file: string): string => `${file}.older`;

describe.each([
  {
    record: 'the ledger has another byte',
    spoil: (_: string, ledger: string) => flipByteOf(ledger),
    names: (_: string, ledger: string) => ledger,
  },
  { record: 'the journal is gone', spoil: (journal: string) => rmSync(journal), names: (journal: string) => journal },
  {
    record: 'journal and ledger are copies from before the switch, and the machine was restarted',
    spoil: (journal: string, ledger: string, marks: string) => {
      rmSync(marks);
      for (const file of [journal, ledger]) copyFileSync(older(file), file);
    },
    names: (journal: string) => `${journal}.committed`,
  },
])('a virtual machine of whose move $record', ({ spoil, names }) => {
  let instance: Instance;
  let vm: BuiltInVm;
  let sources: string[] = [];
  let targets: string[] = [];
  let spoilt = '';
  const at = (place: string): string => join(instance.folder, place);
  const disks = (): string[] => [...filesBelow(at('a')), ...filesBelow(at('b'))].filter((path) => /\.(img|vhdx)$/.test(path)).sort();
  const records = (): string[] => readdirSync(instance.paths.movesFolder).sort();
  const ledgers = (): string[] => records().filter((name) => name.endsWith('.json'));

  /** What a person would be shown and asked; `-WhatIf` and a No are both an answer of false. */
  async function asked(bound: { readonly [name: string]: WireValue }, answer: (kind: string) => boolean): Promise<string[]> {
    const questions: string[] = [];
    await invoke(
      { cmdlet: 'Resolve-VMStorageMove', records: [{ parameterSet: 'Name', bound }], address: instance.paths.hostSocket },
      {
        output: () => undefined,
        text: () => undefined,
        progress: () => undefined,
        error: (error) => Promise.reject(error),
        ask: (kind, text) => {
          questions.push(text);
          return answer(kind);
        },
      },
    );
    return questions;
  }

  beforeAll(async () => {
    instance = await Instance.start('doubt', async (made) => {
      await BuiltInVm.environment(made);
      made.environment['VMSTORAGE_KILL_AT'] = `@${join(made.folder, 'kill')}`;
    });
    vm = await BuiltInVm.create(instance, { name: 'doubt', folder: at('a'), diskBytes: [16 * MIB, 16 * MIB] });
    sources = await vm.diskPaths();
    targets = sources.map((path) => join(at('b'), 'Virtual Hard Disks', basename(path)));
    await vm.start();
    writeFileSync(join(instance.folder, 'kill'), 'host:committed');
    const end = reasonOf(vm.move(at('b')));
    const journal = instance.paths.journal(vm.id);
    await until('the move has its records', () => existsSync(journal) || undefined);
    const ledger = join(instance.paths.movesFolder, ledgers()[0]!);
    for (const file of [journal, ledger]) copyFileSync(file, older(file));
    const lost = await end;
    if (!lost.startsWith('HostConnectionLost: ')) throw new Error(`The host was not killed in the move: ${lost}`);
    // Its worker went on by itself: what is written from here on is only at the destination.
    await vm.goesOn();
    vm.probe.kill();
    spoilt = names(journal, ledger);
    spoil(journal, ledger, join(memoryFolder(instance.environment)!, `${vm.id}.marks`));
    for (const file of [journal, ledger]) rmSync(older(file));
    await instance.startHost();
  });
  afterAll(() => instance?.[Symbol.asyncDispose]());

  it('waits without an error, and Get-VM says what is not certain and names the files', async () => {
    const status = await until('Get-VM says it', async () => {
      const found = String((await vm.get())['Status']);
      return found.includes('not certain') ? found : undefined;
    });
    for (const named of [spoilt, 'Resolve-VMStorageMove', ...sources, ...targets]) expect(status).toContain(named);
    expect((await vm.get())['State']).toBe('Running');
    for (const { connected, ioErrors, wrongBlocks } of await vm.guest())
      expect({ connected, ioErrors, wrongBlocks }).toEqual({ connected: false, ioErrors: 0, wrongBlocks: 0 });
    expect(disks()).toEqual([...sources, ...targets].sort());
  });

  it('is changed and moved by nobody, and is not said to be moving: neither waiting nor stopping would help', async () => {
    const notOver = {
      code: 'ObjectInUse',
      message: expect.stringMatching(/is not over, and nobody is at it: .* not certain which files/) as string,
    };
    expect(await instance.refusal('Set-VM', { Name: [vm.name], Notes: 'x' })).toMatchObject(notOver);
    expect(await instance.refusal('Remove-VM', { Name: [vm.name], Force: true })).toMatchObject(notOver);
    // One whose journal could be read has a job that waits for its worker.
    expect(await reasonOf(vm.move(at('c')))).toMatch(/^ObjectInUse: .*(An earlier move .* is not over|is being moved already)/);
  });

  it('is as it was after -WhatIf and after a No, and both tell what is known of each side', async () => {
    const before = records();
    const paths = await vm.diskPaths();
    for (const answer of [() => false, (kind: string) => kind === 'shouldProcess']) {
      const questions = await asked({ Name: vm.name, Use: 'Destination' }, answer);
      for (const question of questions)
        for (const named of [...sources, ...targets, instance.paths.journal(vm.id), 'last written', 'The registry names the source'])
          expect(question).toContain(named);
    }
    // PowerShell hands a value on as it was written: the other side must not be taken for that.
    expect((await asked({ Name: vm.name, Use: 'source' }, () => false))[0]).toContain(
      `will make "${sources[0]}", "${sources[1]}" the disks`,
    );
    expect(records()).toEqual(before);
    expect(await vm.diskPaths()).toEqual(paths);
    expect((await vm.guest()).map(({ connected }) => connected)).toEqual([false, false]);
  });

  it('goes on with the destination after -Use Destination -Force, whatever its spelling, and every byte is right', async () => {
    await instance.run('Resolve-VMStorageMove', { Name: vm.name, Use: 'destination', Force: true });
    await vm.goesOn();
    expect(await vm.diskPaths()).toEqual(targets);
    expect((await vm.get())['Status']).toBe('Operating normally');
    expect(disks()).toEqual([...sources, ...targets].sort());
    expect(ledgers()).toEqual([]);
    expect(existsSync(instance.paths.journal(vm.id))).toBe(false);
    await expect(instance.refusal('Resolve-VMStorageMove', { Name: vm.name, Use: 'Source', Force: true })).resolves.toMatchObject({
      code: 'InvalidState',
      message: expect.stringContaining('are being served') as string,
    });
    // A second move works, and is judged with everything else.
    await vm.move(at('c'));
    await vm.goesOn();
    await vm.stopAndCheck();
  });
});
