/** Two providers behind one port: who starts machines, and whose a running machine is. */
import { describe, expect, it } from 'vitest';
import { ChosenHypervisor, chooseHypervisor } from '../../../src/hypervisor/choose.js';
import type { Hypervisor } from '../../../src/hypervisor/hypervisor.js';
import type { VmState } from '../../../src/model/vm.js';
import { systemClock } from '../../../src/os/clock.js';
import { silentLog } from '../../../src/os/log.js';
import { instancePaths } from '../../../src/os/paths.js';
import { systemProcesses } from '../../../src/os/processes.js';

function provider(name: string, running: Set<string>, calls: string[], found: VmState = 'Off'): Hypervisor {
  const state = (vmId: string): VmState => (running.has(vmId) ? 'Running' : 'Off');
  return {
    remark: name,
    state,
    runtime: (vmId) => ({ state: state(vmId), pid: null, startedAt: null, accelerator: null, processorTimeMs: null, trouble: null }),
    start: async (vm) => void calls.push(`${name} start ${vm.id}`),
    shutDown: async (vmId) => calls.push(`${name} shutDown ${vmId}`) > 0,
    turnOff: async (vmId) => void calls.push(`${name} turnOff ${vmId}`),
    pause: async () => undefined,
    resume: async () => undefined,
    adopt: async () => found,
    subscribe: () => () => undefined,
    close: () => undefined,
  };
}

describe('the choice of a hypervisor', () => {
  it('leaves a machine that the other provider runs to that one', async () => {
    const calls: string[] = [];
    const both = new ChosenHypervisor(provider('chosen', new Set(), calls), provider('other', new Set(['old']), calls));
    expect(both.state('old')).toBe('Running');
    await both.turnOff('old');
    await both.turnOff('new');
    expect(calls).toEqual(['other turnOff old', 'chosen turnOff new']);
  });

  it('finds a machine again that the other provider started', async () => {
    const both = new ChosenHypervisor(provider('chosen', new Set(), []), provider('other', new Set(), [], 'Running'));
    expect(await both.adopt('old')).toBe('Running');
  });

  it('is QEMU unless the built-in guest is asked for by name, and nothing else is taken for a choice', () => {
    const choose = (choice: string | undefined): Hypervisor =>
      chooseHypervisor({
        paths: instancePaths({ VMSTORAGE_HOME: '/tmp/x' }),
        processes: systemProcesses,
        clock: systemClock,
        log: silentLog,
        environment: { PATH: '', VMSTORAGE_HYPERVISOR: choice },
      });
    expect(choose(undefined).remark).toBeNull();
    expect(choose('qemu').remark).toBeNull();
    expect(choose('built-in').remark).toContain('writes test blocks');
    expect(() => choose('xen')).toThrow("VMSTORAGE_HYPERVISOR is 'xen'");
  });
});
