/** What Get-VM's Status says of a machine: what keeps its guest waiting comes first. */
import { describe, expect, it } from 'vitest';
import type { VmRuntime, WorkerHealth } from '../../../src/host/services.js';
import { machineStatuses } from '../../../src/host/publish.js';
import type { MoveStatus } from '../../../src/model/move.js';
import { freshStatus } from '../../../src/migration/progress.js';

const running: VmRuntime = { state: 'Running', pid: 1, startedAt: null, accelerator: null, processorTimeMs: null, trouble: null };
const serving: WorkerHealth = { state: 'serving', pid: 2, restarts: 0, trouble: null, diskErrors: [], longestTurn: null };
const verifying = { ...freshStatus('m', 'verify'), percent: 60 };
const long = { operations: 524_298, processorUs: 61_400, wallUs: 100_000 };
const short = { operations: 80, processorUs: 50_000, wallUs: 400_000 };

const shown = (worker: WorkerHealth, move: MoveStatus | null, runtime = running) => machineStatuses(runtime, worker, move, new Date());

describe('the longest turn of a worker in the Status of its machine', () => {
  const text = 'All disks waited 61 ms for the worker, which was busy with 524298 operations.';

  it('is told from 50 ms on, with what the turn did, also beside a move', () => {
    expect(shown({ ...serving, longestTurn: long }, null)).toEqual([{ text, operational: 'Degraded' }]);
    expect(shown(serving, { ...verifying, longestTurn: long }).map((status) => status.text)).toEqual([
      `Moving storage: verifying, 60%. ${text}`,
    ]);
  });

  it('is not told below, however long the thread had to wait for a processor, nor of a machine that is off', () => {
    expect(shown({ ...serving, longestTurn: short }, null)[0].text).toBe('Operating normally');
    expect(shown(serving, { ...verifying, longestTurn: short })[0].text).toBe('Moving storage: verifying, 60%');
    expect(shown({ ...serving, longestTurn: long }, null, { ...running, state: 'Off' })[0].text).toBe('Operating normally');
  });

  it('is not known of a worker that does not say it', () => {
    expect(shown(serving, verifying)[0].text).toBe('Moving storage: verifying, 60%');
  });
});
