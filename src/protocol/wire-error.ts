/** An error on the wire, between client and host and between host and worker: what is sent of it, and what becomes of it there. */
import { errorTable, VmStorageError, type ErrorCode } from '../model/errors.js';
import type { WireError } from './messages.js';

export function toWireError(error: VmStorageError): WireError {
  return {
    message: error.message,
    errorId: error.errorId,
    category: error.category,
    code: error.code,
    ...(error.target === undefined ? {} : { target: error.target }),
    ...(error.recommendedAction === undefined ? {} : { recommendedAction: error.recommendedAction }),
  };
}

/** With the sender's own text, id and category. `unknown` stands for a code that is not ours: the peer may be of another release. */
export function fromWireError(error: WireError, unknown: ErrorCode): VmStorageError {
  const code = Object.hasOwn(errorTable, error.code) ? (error.code as ErrorCode) : unknown;
  return new VmStorageError(code, error.message, {
    ...(error.errorId ? { errorId: error.errorId } : {}),
    ...(error.category ? { category: error.category } : {}),
    ...(error.target === undefined ? {} : { target: error.target }),
    ...(error.recommendedAction === undefined ? {} : { recommendedAction: error.recommendedAction }),
  });
}
