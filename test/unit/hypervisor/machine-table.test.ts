/** What both providers promise of their machines: states in order, an end that is told once, and a failed start that leaves nothing. */
import { expect, it } from 'vitest';
import { VmStorageError } from '../../../src/model/errors.js';
import { type Machine, machineThatIsOff, MachineTable } from '../../../src/hypervisor/machine-table.js';
import { vmConfiguration } from '../../support/vm-configuration.js';

const vm = vmConfiguration('/vms');

function watched(): { table: MachineTable<Machine>; states: string[] } {
  const table = new MachineTable<Machine>();
  const states: string[] = [];
  table.subscribe((_, state) => states.push(state));
  return { table, states };
}

it('a failed start is given up, and says which machine could not be started', async () => {
  const { table, states } = watched();
  const machine = machineThatIsOff(vm.id);
  const giveUp = (): Promise<void> => table.ended(machine, async () => void states.push('removed'));
  const start = (error: Error): Promise<void> => table.start(vm, machine, () => Promise.reject(error), giveUp);
  await expect(start(new Error('no room'))).rejects.toMatchObject({
    code: 'HypervisorFailure',
    message: 'Virtual machine "web01" could not be started: no room.',
  });
  expect(states).toEqual(['Starting', 'removed', 'Off']);
  const known = new VmStorageError('InvalidState', 'Known.');
  await expect(start(known)).rejects.toBe(known);
});

it('a machine that is not off is not started', async () => {
  const { table } = watched();
  table.adopt(machineThatIsOff(vm.id));
  const never = (): Promise<void> => Promise.reject(new Error('was called'));
  await expect(table.start(vm, machineThatIsOff(vm.id), never, never)).rejects.toMatchObject({ code: 'InvalidState' });
  expect(table.state(vm.id)).toBe('Running');
});

it('an end is told once, and an old end does not touch the machine that was started since', async () => {
  const { table, states } = watched();
  const [first, second] = [machineThatIsOff(vm.id), machineThatIsOff(vm.id)];
  table.adopt(first);
  await Promise.all([table.ended(first, async () => {}), table.ended(first, async () => {})]);
  table.adopt(second);
  await table.ended(first, () => Promise.reject(new Error('was called')));
  expect(states).toEqual(['Running', 'Off', 'Running']);
  expect(table.has(second)).toBe(true);
});

it('whoever ends a machine that is being ended waits until it is off', async () => {
  const { table, states } = watched();
  const machine = machineThatIsOff(vm.id);
  table.adopt(machine);
  let removed = (): void => {};
  void table.ended(machine, () => new Promise((resolve) => (removed = resolve)));
  const second = table.ended(machine, async () => {}).then(() => states.push('second'));
  await Promise.resolve();
  removed();
  await second;
  expect(states).toEqual(['Running', 'Off', 'second']);
});
