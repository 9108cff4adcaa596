/**
 * The one closed list of error codes. A code says what a person can do about it; numbers are exit codes of the CLI and are
 * never reused. Mapped once, here, to PowerShell's category and to the id Hyper-V's own module uses.
 *
 * Context and cause are kept apart from the code: `VmStorageError.target` is the object asked for, `cause` the error below.
 */
export const errorTable = {
  // code:                 [exit, PowerShell ErrorCategory, error id before the class name]
  InvalidParameter: [2, 'InvalidArgument', 'InvalidParameter'],
  ObjectNotFound: [3, 'ObjectNotFound', 'ObjectNotFound'],
  InvalidState: [4, 'InvalidOperation', 'InvalidState'],
  ObjectInUse: [5, 'ResourceBusy', 'ObjectInUse'],
  AlreadyExists: [6, 'ResourceExists', 'AlreadyExists'],
  NoSpace: [7, 'ResourceUnavailable', 'NoSpace'],
  AccessDenied: [8, 'PermissionDenied', 'AccessDenied'],
  NotImplemented: [9, 'NotImplemented', 'NotImplemented'],
  ImageCorrupt: [10, 'InvalidData', 'ImageCorrupt'],
  ImageUnsupported: [11, 'InvalidData', 'ImageUnsupported'],
  OperationFailed: [12, 'NotSpecified', 'OperationFailed'],
  OperationStopped: [13, 'OperationStopped', 'OperationStopped'],
  StorageFailure: [14, 'WriteError', 'StorageFailure'],
  VerificationFailed: [15, 'InvalidResult', 'VerificationFailed'],
  HypervisorFailure: [16, 'InvalidResult', 'HypervisorFailure'],
  HostNotReachable: [17, 'ConnectionError', 'HostNotReachable'],
  HostConnectionLost: [18, 'ConnectionError', 'HostConnectionLost'],
  HostVersionMismatch: [19, 'ProtocolError', 'HostVersionMismatch'],
  ProtocolError: [20, 'ProtocolError', 'ProtocolError'],
  UnsafeFolder: [21, 'SecurityError', 'UnsafeFolder'],
  HostInternalError: [70, 'NotSpecified', 'HostInternalError'],
} as const satisfies Record<string, readonly [number, string, string]>;

export type ErrorCode = keyof typeof errorTable;

export interface ErrorContext {
  /** The object the request was about, as the user named it. */
  target?: string;
  /** What to do next, if the message does not say it already. */
  recommendedAction?: string;
  /** The id to show instead of the table's, where Hyper-V's own differs per cmdlet (Get-VM: InvalidParameter for an unknown name). */
  errorId?: string;
  /** PowerShell category instead of the table's, for the same reason. */
  category?: string;
  cause?: unknown;
}

/** The error of this project: code, message (what was asked, what is wrong, what to do), context, cause. */
export class VmStorageError extends Error {
  readonly code: ErrorCode;
  readonly target: string | undefined;
  readonly recommendedAction: string | undefined;
  readonly errorId: string;
  readonly category: string;

  constructor(code: ErrorCode, message: string, context: ErrorContext = {}) {
    super(message, context.cause === undefined ? undefined : { cause: context.cause });
    this.name = 'VmStorageError';
    this.code = code;
    this.target = context.target;
    this.recommendedAction = context.recommendedAction;
    this.errorId = context.errorId ?? errorTable[code][2];
    this.category = context.category ?? errorTable[code][1];
  }

  get exitCode(): number {
    return errorTable[this.code][0];
  }
}
