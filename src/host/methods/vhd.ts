/** New-VHD and Get-VHD. */
import { stat } from 'node:fs/promises';
import type { Bound } from '../../../cmdlets/index.js';
import { formatOf } from '../../model/disk-format.js';
import { VmStorageError } from '../../model/errors.js';
import type { ImageFacts } from '../../protocol/worker.js';
import { absolutePath, createImage, refuseOccupied } from '../disk-files.js';
import { publishImage } from '../publish.js';
import { list } from '../selection.js';
import type { CmdletContext, CmdletHandler, HostServices } from '../services.js';
import { each } from './each.js';

export function newVhd(services: HostServices): CmdletHandler {
  return async (context) => {
    const bound = context.bound as Bound<'New-VHD'>;
    if (bound.Differencing === true || context.parameterSet === 'Differencing') {
      throw new VmStorageError(
        'NotImplemented',
        'Differencing disks are not implemented. Nothing was changed; create a -Dynamic or a -Fixed disk.',
        { target: 'Differencing' },
      );
    }
    const fixed = bound.Fixed === true || context.parameterSet.startsWith('Fixed');
    await each(context, list(context.bound['Path']).map(String), async (given) => {
      const path = absolutePath(given, context.cwd);
      formatOf(path);
      await refuseOccupied(path);
      if (!(await context.shouldProcess(`New-VHD will create a new virtual hard disk with the path "${path}".`))) return;
      const facts = await createImage(services, {
        path,
        kind: fixed ? 'fixed' : 'dynamic',
        sizeBytes: wholeNumber(bound.SizeBytes ?? '0'),
        blockSizeBytes: bound.BlockSizeBytes ?? null,
        logicalSectorBytes: bound.LogicalSectorSizeBytes ?? null,
        physicalSectorBytes: bound.PhysicalSectorSizeBytes ?? null,
        owner: await context.caller(),
      });
      await context.output(publishImage(facts, path, false));
    });
  };
}

export function getVhd(services: HostServices): CmdletHandler {
  return async (context) => {
    const paths = list(context.bound['Path']).map((given) => absolutePath(String(given), context.cwd));
    for (const id of list(context.bound['VMId'])) paths.push(...(await disksOf(context, services, String(id))));
    await each(context, paths, async (path) => {
      if (context.signal.aborted) return;
      const { facts, attached } = await inspect(services, path);
      for (const warning of facts.warnings ?? []) await context.warning(`'${path}': ${warning}`);
      await context.output(publishImage(facts, path, attached));
    });
  };
}

async function disksOf(context: CmdletContext, services: HostServices, id: string): Promise<string[]> {
  const vm = services.registry.byId(id);
  if (vm) return vm.configuration.disks.filter((disk) => !disk.passThrough).map((disk) => disk.path);
  await context.error(
    new VmStorageError('ObjectNotFound', `Hyper-V was unable to find a virtual machine with id "${id}".`, { target: id }),
  );
  return [];
}

/** A live image is asked about at its worker, which has it locked; any other at a tool. */
async function inspect(services: HostServices, path: string): Promise<{ facts: ImageFacts; attached: boolean }> {
  const format = formatOf(path);
  await refuseNeither(path);
  const owner = await services.registry.diskOwner(path);
  const worker = owner ? services.workers.peek(owner.vmId) : null;
  try {
    const facts = worker
      ? await worker.call('inspectImage', { path: owner!.path, format })
      : await services.workers.tool((tool) => tool.call('inspectImage', { path, format }));
    const attached = owner !== null && (services.hypervisor.state(owner.vmId) !== 'Off' || services.locks.isMoving(owner.vmId));
    return { facts, attached };
  } catch (error) {
    if (!(error instanceof VmStorageError) || !['ObjectNotFound', 'AccessDenied', 'StorageFailure'].includes(error.code)) throw error;
    throw new VmStorageError(error.code, `Getting the mounted storage instance for the path '${path}' failed.\n${error.message}`, {
      target: path,
      errorId: 'OperationFailed',
      category: 'NotSpecified',
      cause: error,
    });
  }
}

/** To open a pipe is to wait for a writer, who may never come. What is not there is told by whoever opens it. */
async function refuseNeither(path: string): Promise<void> {
  const found = await stat(path).catch(() => null);
  if (found === null || found.isFile() || found.isBlockDevice()) return;
  const folder = found.isDirectory()
    ? ', but a folder. The disks of a virtual machine are found by its identifier: Get-VM | Select-Object VMId | Get-VHD'
    : '';
  throw new VmStorageError('InvalidParameter', `'${path}' is neither a file nor a block device${folder}.`, { target: path });
}

function wholeNumber(given: string | number): bigint {
  try {
    return BigInt(given);
  } catch {
    throw new VmStorageError('InvalidParameter', `'${given}' is not a number of bytes.`, { target: String(given) });
  }
}
