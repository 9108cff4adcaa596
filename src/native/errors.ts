/** The one place where an error of the engine becomes one of ours. The addon writes `KIND\u001fmessage\u001fcause\u001fpath\u001ferrno` as its reason. */
import { getSystemErrorName } from 'node:util';
import { VmStorageError, type ErrorCode } from '../model/errors.js';

/** engine/src/disk/error.rs ErrorKind → code. A kind that is not here is a bug of the addon and says so. */
const codes: Readonly<Record<string, ErrorCode>> = {
  NotFound: 'ObjectNotFound',
  AlreadyExists: 'AlreadyExists',
  PermissionDenied: 'AccessDenied',
  NoSpace: 'NoSpace',
  Locked: 'ObjectInUse',
  Corrupt: 'ImageCorrupt',
  Unsupported: 'ImageUnsupported',
  InvalidArgument: 'InvalidParameter',
  InvalidState: 'InvalidState',
  ReadOnly: 'AccessDenied',
  Io: 'StorageFailure',
  Protocol: 'ProtocolError',
  Cancelled: 'OperationStopped',
  UnsafeFolder: 'UnsafeFolder',
};

export function fromNative(error: unknown): VmStorageError {
  if (error instanceof VmStorageError) return error;
  const text = error instanceof Error ? error.message : String(error);
  const [kind = '', message = '', cause = '', path = '', errno = '0'] = text.split('\u001f');
  const code = codes[kind];
  if (code === undefined) return new VmStorageError('HostInternalError', `The engine failed: ${text}`, { cause: error });
  const context = { ...(path === '' ? {} : { target: path }), cause: systemError(cause, Number(errno)) ?? error };
  return new VmStorageError(code, sentence(cause === '' ? message : `${message}: ${cause}`), context);
}

/** What the operating system said, as Node says it of its own calls: with a code that os/errno.ts knows. */
function systemError(words: string, errno: number): Error | null {
  return errno > 0 ? Object.assign(new Error(words), { errno: -errno, code: getSystemErrorName(-errno) }) : null;
}

/** The engine's messages are parts of sentences. */
const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}${text.endsWith('.') ? '' : '.'}`;

export async function callNative<T>(call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    throw fromNative(error);
  }
}
