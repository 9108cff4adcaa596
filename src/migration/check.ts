/**
 * What the file system and the other VMs say to a plan, before anything is written. Every refusal is one error that names the
 * path; a plan that comes back from here has no known reason to fail.
 *
 * Looked at twice: when the move is asked for (so that a refusal, also under -WhatIf, comes at once) and again when it leaves the line.
 */
import * as path from 'node:path';
import { VmStorageError } from '../model/errors.js';
import type { DiskMove, MovePlan } from '../model/move.js';
import { sameFile, writeIdentity, type KnownFile, type WrittenIdentity } from '../os/file-identity.js';
import { notLookedAt } from './move-error.js';
import type { FileFacts, ImageFacts, MigrationPorts } from './ports.js';
import { roomOf } from './room.js';
import type { SpaceNeed } from './space.js';

export interface SourceFile {
  readonly path: string;
  readonly identity: WrittenIdentity;
  /** With symbolic links resolved, and st_dev of the folder it is in. */
  readonly real: string;
  readonly device: string;
}

export interface TargetFile {
  readonly path: string;
  /** st_dev of the nearest folder that existed: how a vanished file system is told from a deleted file. */
  readonly device: string;
}

export interface CheckedMove {
  /** With the folders to create and the sources to keep filled in. */
  readonly plan: MovePlan;
  readonly sources: readonly SourceFile[];
  readonly targets: readonly TargetFile[];
  /** Where the configuration goes, or null when it stays. */
  readonly configuration: TargetFile | null;
  readonly needs: readonly SpaceNeed[];
  /** What the sources are, in the order of the plan's disks. */
  readonly images: readonly ImageFacts[];
  /** Target paths with symbolic links resolved: what no other move may use meanwhile. */
  readonly claims: readonly string[];
  readonly warnings: readonly string[];
}

export type CheckPorts = Pick<MigrationPorts, 'files' | 'registry' | 'locks' | 'workers'>;

/** `before`: an earlier check of the same request, whose images are taken over if the files are the same ones. */
export async function checkMove(
  plan: MovePlan,
  ports: CheckPorts,
  { before = null, requireFullSize = false }: { before?: CheckedMove | null; requireFullSize?: boolean } = {},
): Promise<CheckedMove> {
  const landings: Landing[] = [];
  const sources: SourceFile[] = [];
  const targets: TargetFile[] = [];
  const keepSources = [...plan.keepSources];
  const warnings: string[] = [];
  let configuration: TargetFile | null = null;
  const known: { readonly path: string; readonly facts: FileFacts }[] = [];

  for (const move of plan.disks) {
    const facts = await sourceFacts(move, plan, ports);
    known.push({ path: move.source, facts });
    const real = (await ports.files.realPath(move.source)) ?? move.source;
    const folder = await ports.files.facts(path.posix.dirname(real));
    (await ports.files.hold(move.source, plan.owner ?? null))?.close(); // refused where others can change what it is
    sources.push({ path: move.source, identity: writeIdentity(facts), real, device: String((folder ?? facts).device) });
    if (facts.hardLinks > 1 && !keepSources.some((kept) => kept.path === move.source)) {
      const reason = `it has ${facts.hardLinks - 1} further hard link(s)`;
      keepSources.push({ path: move.source, reason });
      warnings.push(`The virtual hard disk '${move.source}' will be moved, but its old file will not be deleted: ${reason}.`);
    }
  }
  for (const move of plan.disks) {
    const landing = await landFile(move.target, known, plan, ports);
    landings.push(landing);
    targets.push({ path: move.target, device: String(landing.facts.device) });
    await refuseOtherUser(move.target, landing, plan, ports);
  }
  if (plan.configurationTarget !== plan.configurationSource) {
    const own = await ports.files.facts(plan.configurationSource);
    const landing = await landFile(
      plan.configurationTarget,
      own ? [...known, { path: plan.configurationSource, facts: own }] : known,
      plan,
      ports,
    );
    landings.push(landing);
    configuration = { path: plan.configurationTarget, device: String(landing.facts.device) };
    await refuseOtherUser(plan.configurationTarget, landing, plan, ports);
  }
  for (const folder of await movedFolders(plan, ports)) landings.push(await landFolder(folder, known, plan, ports));

  const claims = landings.flatMap((landing) => (landing.file ? [landing.real] : []));
  const twice = claims.find((claim, index) => claims.indexOf(claim) !== index);
  if (twice !== undefined) {
    throw new VmStorageError('InvalidParameter', `Two files of the virtual machine "${plan.vmName}" would both become '${twice}'.`, {
      target: twice,
    });
  }
  const unchanged = before !== null && JSON.stringify(before.sources) === JSON.stringify(sources);
  const images = unchanged ? before.images : await inspect(plan, ports);
  for (const image of images) {
    refuseUnmovable(image);
    warnings.push(...(image.warnings ?? []).map((text) => `'${image.path}': ${text}`));
  }
  return {
    plan: { ...plan, createdFolders: foldersToCreate(landings), keepSources },
    sources,
    targets,
    configuration,
    needs: spaceNeeds({ ...plan, keepSources }, { sources, landings, images }, requireFullSize),
    images,
    claims,
    warnings,
  };
}

// --- sources -------------------------------------------------------------------------------------------------------------------

async function sourceFacts(move: DiskMove, plan: MovePlan, ports: CheckPorts): Promise<FileFacts> {
  const facts = await ask(move.source, () => ports.files.facts(move.source));
  if (!facts) {
    throw new VmStorageError(
      'ObjectNotFound',
      `The virtual hard disk '${move.source}' of the virtual machine "${plan.vmName}" does not exist.`,
      {
        target: move.source,
      },
    );
  }
  if (facts.kind !== 'file') {
    throw new VmStorageError(
      'InvalidState',
      `'${move.source}' is not a file but a ${facts.kind === 'folder' ? 'folder' : 'device'}; it cannot be moved.`,
      {
        target: move.source,
      },
    );
  }
  const owner = await ports.registry.diskOwner(move.source);
  const sharing = owner && owner.vmId !== plan.vmId ? owner.vmName : otherVmNaming(move.source, plan, ports);
  if (sharing) {
    throw new VmStorageError(
      'ObjectInUse',
      `The virtual hard disk '${move.source}' is also used by the virtual machine "${sharing}"; it cannot be moved.`,
      {
        target: move.source,
      },
    );
  }
  return facts;
}

/** A move makes the disk anew; what it could not carry over would be lost. */
function refuseUnmovable({ path: at, unmovable }: ImageFacts): void {
  if (unmovable === null || unmovable === undefined) return;
  throw new VmStorageError('ImageUnsupported', `The virtual hard disk '${at}' cannot be moved: ${unmovable}.`, { target: at });
}

// --- targets -------------------------------------------------------------------------------------------------------------------

interface Landing {
  readonly path: string;
  /** True for a file to be made there, false for a folder that only has to exist. */
  readonly file: boolean;
  /** The nearest thing above (or at) it that exists: a folder. */
  readonly folder: string;
  readonly facts: FileFacts;
  /** Folders between, outermost first. */
  readonly missing: readonly string[];
  /** The path with symbolic links resolved. */
  readonly real: string;
}

type Known = readonly { readonly path: string; readonly facts: KnownFile }[];

async function landFile(target: string, known: Known, plan: MovePlan, ports: CheckPorts): Promise<Landing> {
  const there = await ask(target, () => ports.files.facts(target));
  const own = there && known.find((one) => sameFile(there, one.facts));
  if (own && own.path !== sourceOf(target, plan)) {
    throw new VmStorageError(
      'AlreadyExists',
      `'${target}' is where '${own.path}' of the virtual machine "${plan.vmName}" lies; a move never overwrites.`,
      {
        target,
        recommendedAction: 'Name another destination. Two files change places by way of a third.',
      },
    );
  }
  if (own) {
    throw new VmStorageError(
      'InvalidParameter',
      `'${target}' is '${own.path}' itself under another name; it cannot be moved onto itself.`,
      { target },
    );
  }
  if (there || (await ports.files.isLink(target))) {
    const what = there ? (there.kind === 'folder' ? 'a folder' : 'a file') : 'a symbolic link';
    throw new VmStorageError('AlreadyExists', `There is ${what} at '${target}' already; a move never overwrites.`, {
      target,
      recommendedAction: 'Delete or rename it, or name another destination.',
    });
  }
  const landing = await landFolder(path.posix.dirname(target), known, plan, ports);
  return { ...landing, path: target, file: true, real: path.posix.join(landing.real, path.posix.basename(target)) };
}

const sourceOf = (target: string, plan: MovePlan): string =>
  plan.disks.find((disk) => disk.target === target)?.source ?? plan.configurationSource;

async function landFolder(wanted: string, known: Known, plan: MovePlan, ports: CheckPorts): Promise<Landing> {
  const missing: string[] = [];
  let folder = wanted;
  let facts = await ask(folder, () => ports.files.facts(folder));
  while (!facts) {
    if (await ports.files.isLink(folder)) {
      throw new VmStorageError('InvalidParameter', `'${folder}' is a symbolic link that leads nowhere.`, { target: folder });
    }
    missing.unshift(folder);
    folder = path.posix.dirname(folder);
    facts = await ask(folder, () => ports.files.facts(folder));
  }
  if (facts.kind !== 'folder') {
    const own = known.find((one) => sameFile(facts, one.facts));
    const why = own ? `lies inside the virtual machine's own file '${own.path}'` : `cannot be made: '${folder}' is not a folder`;
    throw new VmStorageError('InvalidParameter', `The destination '${wanted}' ${why}.`, { target: wanted });
  }
  const why = await ask(folder, () => ports.files.whyNoFiles(folder));
  if (why !== null) {
    throw new VmStorageError('AccessDenied', `The destination '${folder}' is not writable for this host: ${why}.`, {
      target: folder,
      recommendedAction: 'Check the path, its owner and mode, and how its file system is mounted; or name another destination.',
    });
  }
  await ports.files.refuseUnsafe(folder, plan.owner ?? null);
  const real = (await ports.files.realPath(folder)) ?? folder;
  return { path: wanted, file: false, folder, facts, missing, real: path.posix.join(real, path.posix.relative(folder, wanted)) };
}

async function refuseOtherUser(target: string, landing: Landing, plan: MovePlan, ports: CheckPorts): Promise<void> {
  const vm = otherVmNaming(target, plan, ports) ?? otherVmNaming(landing.real, plan, ports);
  if (vm) {
    throw new VmStorageError('ObjectInUse', `The virtual machine "${vm}" uses the path '${target}'; nothing can be moved there.`, {
      target,
    });
  }
  const holder = ports.locks.pathHolder(landing.real);
  if (holder !== null && holder !== holderName(plan)) {
    throw new VmStorageError('ObjectInUse', `The path '${target}' is in use: ${holder}.`, { target });
  }
}

/** How this move's claims of paths are named to others. */
export function holderName(plan: MovePlan): string {
  return `move ${plan.moveId} of the virtual machine "${plan.vmName}"`;
}

function otherVmNaming(at: string, plan: MovePlan, ports: CheckPorts): string | null {
  const other = ports.registry
    .list()
    .find(
      (vm) => vm.configuration.id !== plan.vmId && (vm.configurationFile === at || vm.configuration.disks.some((disk) => disk.path === at)),
    );
  return other?.configuration.name ?? null;
}

/** Folders the VM will name that it does not name now. */
async function movedFolders(plan: MovePlan, ports: CheckPorts): Promise<readonly string[]> {
  const before = ports.registry.byId(plan.vmId)?.configuration;
  const named = [plan.after.path, plan.after.snapshotFileLocation, plan.after.smartPagingFilePath];
  const now = before ? [before.path, before.snapshotFileLocation, before.smartPagingFilePath] : [];
  return [...new Set(named)].filter((folder) => !now.includes(folder));
}

function foldersToCreate(landings: readonly Landing[]): readonly string[] {
  const all = new Set(landings.flatMap((landing) => landing.missing));
  return [...all].sort((a, b) => a.split('/').length - b.split('/').length || (a < b ? -1 : 1));
}

// --- space ---------------------------------------------------------------------------------------------------------------------

function spaceNeeds(
  plan: MovePlan,
  { sources, landings, images }: { sources: readonly SourceFile[]; landings: readonly Landing[]; images: readonly ImageFacts[] },
  requireFullSize: boolean,
): readonly SpaceNeed[] {
  return plan.disks.map((move, index) => {
    const { facts, folder } = landings[index]!;
    const image = images[index]!;
    const { data, now, most } = roomOf(image);
    const device = String(facts.device);
    const goes = sources[index]!.device === device && !plan.keepSources.some((kept) => kept.path === move.source);
    return {
      target: move.target,
      device,
      folder,
      bytes: requireFullSize ? most : now,
      data,
      most,
      returned: goes ? BigInt(image.allocatedBytes) : 0n,
    };
  });
}

/** A live image is known only to its worker; that of a VM that is off is looked at by a worker made for it, which takes half a second. */
async function inspect(plan: MovePlan, ports: CheckPorts): Promise<readonly ImageFacts[]> {
  if (plan.disks.length === 0) return [];
  const all = async (worker: {
    call: (method: 'inspectImage', params: { path: string; format: DiskMove['format'] }) => Promise<ImageFacts>;
  }) => {
    const images: ImageFacts[] = [];
    for (const { source, format } of plan.disks) images.push(await worker.call('inspectImage', { path: source, format }));
    return images;
  };
  const own = ports.workers.peek(plan.vmId);
  // One that is being started again is waited for; one that is there and silent may be so for long.
  if (own && own.pid !== null && !own.answers) {
    throw new VmStorageError(
      'InvalidState',
      `The storage worker of the virtual machine "${plan.vmName}" does not answer; nothing can be moved now.`,
      { target: plan.vmName, recommendedAction: 'Get-VM shows how long, and why where that is known.' },
    );
  }
  return own ? all(own) : ports.workers.tool(all);
}

/** A question to the file system that fails is a refusal with the path in it, not an internal error. */
async function ask<T>(about: string, question: () => Promise<T>): Promise<T> {
  try {
    return await question();
  } catch (cause) {
    throw notLookedAt(about, cause);
  }
}
