/** A machine's configuration for tests, complete; a test states only what it is about. */
import type { VmConfiguration } from '../../src/model/vm.js';

/** All of its files are in `folder`. */
export function vmConfiguration(folder: string, change: Partial<VmConfiguration> = {}): VmConfiguration {
  return {
    schema: 1,
    id: 'aaaaaaaa-0000-4000-8000-000000000001',
    name: 'web01',
    generation: 2,
    memoryStartupBytes: 512 * 2 ** 20,
    processorCount: 1,
    notes: '',
    path: folder,
    snapshotFileLocation: folder,
    smartPagingFilePath: folder,
    disks: [],
    directBoot: null,
    createdAt: '2026-11-24T10:00:00.000Z',
    automaticStartAction: 'Nothing',
    automaticStopAction: 'ShutDown',
    ...change,
  };
}
