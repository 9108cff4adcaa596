/** Command lines of the peers, as fast as they go: direct I/O, io_uring, a thread of its own for the I/O. Pure. */
import type { DiskFormat } from '../../src/model/vm.js';

/** `-W` writes out of order, `-m 16` keeps 16 requests in flight, `none` is direct I/O. Creates the target and flushes it. */
export const convertArguments = (format: DiskFormat, source: string, target: string): string[] => [
  ...['convert', '-W', '-m', '16', '-t', 'none', '-T', 'none', '-f', format, '-O', format],
  ...(format === 'vhdx' ? ['-o', 'subformat=dynamic'] : []),
  ...[source, target],
];

/** The raw disk as a dynamic VHDX, made once. */
export const convertFormatArguments = (raw: string, vhdx: string): string[] => [
  ...['convert', '-f', 'raw', '-O', 'vhdx', '-o', 'subformat=dynamic', raw, vhdx],
];

/** What a move's verification is beside: both files read with direct I/O and compared. */
export const compareArguments = (format: DiskFormat, source: string, target: string): string[] => [
  ...['compare', '-T', 'none', '-f', format, '-F', format, source, target],
];

const SOURCE_NODE = 'source';
const TARGET_NODE = 'target';

export interface StorageDaemonPlace {
  readonly source: string;
  /** Null when nothing is mirrored. */
  readonly target: string | null;
  /** Socket of a vhost-user-blk export of the source, or null. */
  readonly vhostUserSocket: string | null;
  /** Of that export; 1 where nothing is said. */
  readonly queues?: number;
  readonly qmpSocket: string;
}

const fileNode = (name: string, path: string): string[] => [
  ...['--blockdev', `driver=file,node-name=${name}-file,filename=${path},cache.direct=on,aio=io_uring`],
  ...['--blockdev', `driver=raw,node-name=${name},file=${name}-file`],
];

export const storageDaemonArguments = ({ source, target, vhostUserSocket, queues = 1, qmpSocket }: StorageDaemonPlace): string[] => [
  ...['--object', 'iothread,id=io'],
  ...fileNode(SOURCE_NODE, source),
  ...(target === null ? [] : fileNode(TARGET_NODE, target)),
  ...(vhostUserSocket === null
    ? []
    : [
        '--export',
        `type=vhost-user-blk,id=export,node-name=${SOURCE_NODE},writable=on,num-queues=${queues},iothread=io,addr.type=unix,addr.path=${vhostUserSocket}`,
      ]),
  ...['--chardev', `socket,id=qmp,path=${qmpSocket},server=on,wait=off`, '--monitor', 'chardev=qmp'],
];

export const MIRROR_JOB = 'move';
export const mirrorCommand = { 'job-id': MIRROR_JOB, device: SOURCE_NODE, target: TARGET_NODE, sync: 'full', 'copy-mode': 'background' };
