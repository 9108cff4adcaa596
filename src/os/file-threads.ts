/**
 * Node calls file systems on a pool of 4 threads, or as many as UV_THREADPOOL_SIZE says when it is started. A call to one that hangs keeps
 * its thread: with four of them all file work of the process stands still, of other machines too.
 */

/** More than hanging calls one expects: each move has one at a time. They cost some 10 KiB each. */
const FILE_THREADS = '32';

/** The environment of a process whose file work has to go on beside file systems that hang. */
export function withFileThreads(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return { UV_THREADPOOL_SIZE: FILE_THREADS, ...environment };
}

/** What a process with such an environment starts gets along with Node's own number. Its own pool is there by now: its modules were read by it. */
export function keepFileThreadsToOneself(): void {
  delete process.env['UV_THREADPOOL_SIZE'];
}
