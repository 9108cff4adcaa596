/** The built-in guest as a new host finds it again. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { BuiltInHypervisor } from '../../../src/hypervisor/built-in.js';
import { systemClock } from '../../../src/os/clock.js';
import { silentLog } from '../../../src/os/log.js';
import { instancePaths } from '../../../src/os/paths.js';
import { systemProcesses } from '../../../src/os/processes.js';

const vmId = '05ce7544-c381-4823-b519-22e47b76ea99';

it('keeps the time since it was started over a restart of the host', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'vmst-b-'));
  const paths = instancePaths({ VMSTORAGE_HOME: folder });
  const started = Date.now();
  const guest = await systemProcesses.startDetached({
    // The program that a guest is: what only has its words, as a search of the process table does, is not taken for it.
    command: process.execPath,
    args: ['-e', 'setInterval(() => {}, 1e6)', '--', '--vm', vmId, '--control', paths.guestSocket(vmId)],
    logFile: join(folder, 'log'),
    cwd: '/',
  });
  const hypervisor = new BuiltInHypervisor({ paths, processes: systemProcesses, clock: systemClock, log: silentLog, environment: {} });
  try {
    expect(await hypervisor.adopt(vmId)).toBe('Running');
    const { startedAt, pid } = hypervisor.runtime(vmId);
    expect(pid).toBe(guest.identity.pid);
    expect(Math.abs(Date.parse(String(startedAt)) - started)).toBeLessThan(1_000);
  } finally {
    hypervisor.close();
    systemProcesses.signal(guest.identity, 'SIGKILL');
    await rm(folder, { recursive: true, force: true });
  }
});
