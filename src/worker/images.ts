/** What a worker does to files that it does not serve: create and examine images, see who has them, read a journal. */
import { native } from '../native/binding.js';
import { callNative } from '../native/errors.js';
import type { CreateImage, ImageFacts, JournalStatus, WorkerMethods } from '../protocol/worker.js';
import type { DiskFormat } from '../model/vm.js';

async function inspect(path: string, format: DiskFormat): Promise<ImageFacts> {
  const facts = await callNative(native().inspectImage(path, format));
  return {
    path,
    format,
    kind: facts.kind === 'fixed' ? 'fixed' : 'dynamic',
    sizeBytes: facts.sizeBytes.toString(),
    fileBytes: facts.fileBytes.toString(),
    allocatedBytes: facts.allocatedBytes.toString(),
    growthBytes: facts.growthBytes.toString(),
    blockSizeBytes: facts.blockSizeBytes,
    logicalSectorBytes: facts.logicalSectorBytes,
    physicalSectorBytes: facts.physicalSectorBytes,
    diskIdentifier: facts.diskIdentifier,
    dirtyLog: facts.dirtyLog,
    foreignContent: facts.foreignContent,
    unmovable: facts.unmovable,
    warnings: facts.warnings,
  };
}

type ImageMethod = 'createImage' | 'inspectImage' | 'refuseInUse' | 'readJournal';

export const imageMethods: { [M in ImageMethod]: (params: WorkerMethods[M]['params']) => Promise<WorkerMethods[M]['result']> } = {
  createImage: async (image: CreateImage) => {
    await callNative(
      native().createImage(
        image.path,
        image.format,
        image.kind,
        image.sizeBytes,
        image.blockSizeBytes,
        image.logicalSectorBytes,
        image.physicalSectorBytes,
        image.owner ?? null,
      ),
    );
    return inspect(image.path, image.format);
  },
  inspectImage: ({ path, format }) => inspect(path, format),
  refuseInUse: async ({ path }) => {
    await callNative(native().refuseInUse(path));
    return {};
  },
  readJournal: async ({ journalPath, marksPath, lockWaitMs }) => {
    const json = await callNative(native().readJournal(journalPath, marksPath, lockWaitMs));
    return { journal: json === null ? null : (JSON.parse(json) as JournalStatus) };
  },
};
