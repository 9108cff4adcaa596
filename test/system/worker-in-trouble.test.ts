/**
 * A worker that is told to end, is stopped, or cannot do its guest's bidding, seen from outside: by Get-VM, by whoever waits for the move,
 * and by a guest whose every byte is checked.
 */
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { WireObject } from '../../src/protocol/messages.js';
import { BuiltInVm } from '../support/built-in-vm.js';
import { Instance } from '../support/instance.js';
import { reasonOf } from '../support/machine.js';
import { until } from '../support/until.js';

const MIB = 2 ** 20;

let instance: Instance;
let vm: BuiltInVm;
beforeEach(async () => {
  instance = await Instance.start('trouble', (made) => BuiltInVm.environment(made));
  vm = await BuiltInVm.create(instance, { name: 'troubled', folder: join(instance.folder, 'a'), diskBytes: [256 * MIB, 64 * MIB] });
  await vm.start();
});
afterEach(() => instance[Symbol.asyncDispose]());

const statusOf = async (name: string): Promise<WireObject> => (await instance.run('Get-VM', { Name: [name] }))[0]!;

describe('a worker that gets SIGTERM in a move', () => {
  it.each([0, 5, 50, 300])('%i ms after its journal was made: the next one goes on with the move', async (delayMs) => {
    const moving = vm.move(join(instance.folder, 'b'));
    await vm.journalIsThere();
    await new Promise((resolve) => setTimeout(resolve, delayMs)); // the moment is the point: wherever in the copy it falls
    process.kill(vm.probe.pid!, 'SIGTERM');
    await moving;
    expect(await vm.diskPaths()).toEqual(vm.leaves.map((leaf) => join(instance.folder, 'b', 'Virtual Hard Disks', leaf)));
    await vm.stopAndCheck();
  });
});

describe('a worker that is stopped (SIGSTOP)', () => {
  it('is told by Get-VM within seconds, holds up no other machine, and leaves its place to other moves', async () => {
    const other = await BuiltInVm.create(instance, { name: 'other', folder: join(instance.folder, 'other'), diskBytes: [16 * MIB] });
    await instance.run('Set-VMHost', { MaximumStorageMigrations: 1 }, { set: 'ComputerName' });
    const moving = vm.move(join(instance.folder, 'b'));
    await vm.journalIsThere();
    const pid = vm.probe.pid!;
    process.kill(pid, 'SIGSTOP');
    const beganMs = performance.now();
    const told = await until('Get-VM tells', async () => {
      const asked = performance.now();
      const [status] = [await statusOf('troubled'), await statusOf('other')];
      expect(performance.now() - asked).toBeLessThan(3_000);
      return status!['PrimaryOperationalStatus'] === 'SupportingEntityInError' ? status! : undefined;
    });
    expect(performance.now() - beganMs).toBeLessThan(15_000);
    expect(told['Status']).toMatch(
      new RegExp(`^The storage worker \\(process ${pid}\\) has not answered for \\d+ s: it is stopped .* The guest is waiting\\.$`),
    );
    await other.move(join(instance.folder, 'c')); // waits until the stopped one has lost its place
    process.kill(pid, 'SIGCONT');
    await moving;
    await until('no trouble', async () => (await statusOf('troubled'))['Status'] === 'Operating normally' || undefined);
    await vm.stopAndCheck();
  });
});

describe('a worker that does not answer', () => {
  const told = (): Promise<true> =>
    until('Get-VM tells', async () => (/has not answered/.test(String((await statusOf('troubled'))['Status'])) ? true : undefined));
  /** Less than the limit of a question to a worker: it was not asked. */
  const atOnce = async (refusal: Promise<unknown>): Promise<unknown> => {
    const beganMs = performance.now();
    const answer = await refusal;
    expect(performance.now() - beganMs).toBeLessThan(20_000);
    return answer;
  };

  it('is not waited for by a move that is asked for, and one works when it answers again', async () => {
    const pid = vm.probe.pid!;
    process.kill(pid, 'SIGSTOP');
    await told();
    expect(await atOnce(reasonOf(vm.move(join(instance.folder, 'b'))))).toMatch(
      /^InvalidState: .*The storage worker of the virtual machine "troubled" does not answer; nothing can be moved now/,
    );
    process.kill(pid, 'SIGCONT');
    await until('no trouble', async () => (await statusOf('troubled'))['Status'] === 'Operating normally' || undefined);
    await vm.move(join(instance.folder, 'b'));
    await vm.stopAndCheck();
  });

  it('in the middle of a move lets its machine be turned off, and not be started', async () => {
    const moving = vm.move(join(instance.folder, 'b'));
    await vm.journalIsThere();
    const pid = vm.probe.pid!;
    process.kill(pid, 'SIGSTOP');
    await told();
    await instance.run('Stop-VM', { Name: ['troubled'], TurnOff: true });
    expect(await atOnce(instance.refusal('Start-VM', { Name: ['troubled'] }))).toMatchObject({
      code: 'InvalidState',
      message: expect.stringMatching(
        /"troubled" cannot be started: the storage worker \(process \d+\) has not answered for \d+ s/,
      ) as string,
    });
    expect(await instance.refusal('Set-VM', { Name: ['troubled'], Notes: 'x' })).toMatchObject({
      code: 'ObjectInUse',
      message: expect.stringMatching(/is not over, and nobody is at it: the storage worker/) as string,
    });
    process.kill(pid, 'SIGCONT');
    await moving;
    expect(await vm.diskPaths()).toEqual(vm.leaves.map((leaf) => join(instance.folder, 'b', 'Virtual Hard Disks', leaf)));
  });
});

describe('a worker that serves', () => {
  it('refuses another list of disks, and takes the same one again', async () => {
    const disks = vm.servedDisks();
    const journalPath = instance.paths.journal(vm.id);
    expect(await reasonOf(vm.askWorker('serve', { vmId: vm.id, disks: disks.slice(1), journalPath }))).toMatch(
      /^InvalidState: .*other disks/,
    );
    expect((await vm.askWorker('serve', { vmId: vm.id, disks, journalPath })).disks).toHaveLength(2);
  });
});
