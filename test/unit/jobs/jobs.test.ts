/** The life of a job, and who may start. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { VmStorageError } from '../../../src/model/errors.js';
import { admit, placeInLine } from '../../../src/jobs/admission.js';
import { Job } from '../../../src/jobs/job.js';
import { JobQueue } from '../../../src/jobs/queue.js';
import { follows, isFinished, jobStates, mayFollow } from '../../../src/jobs/states.js';

const stop = new VmStorageError('OperationStopped', 'stop');

describe('states', () => {
  test('every pair of states is allowed exactly if the table says so', () => {
    const allowed = jobStates.flatMap((from) => jobStates.filter((to) => mayFollow(from, to)).map((to) => `${from}>${to}`));
    expect(allowed).toEqual([
      'queued>running',
      'queued>cancelled',
      'running>cancelling',
      'running>succeeded',
      'running>failed',
      'cancelling>running',
      'cancelling>succeeded',
      'cancelling>failed',
      'cancelling>cancelled',
    ]);
    expect(jobStates.filter(isFinished)).toEqual(['succeeded', 'failed', 'cancelled']);
    expect(Object.keys(follows)).toEqual([...jobStates]);
  });
});

describe('admission', () => {
  const view = fc.record({
    active: fc.nat(20),
    waiting: fc.uniqueArray(fc.uuid(), { maxLength: 20 }),
    limit: fc.integer({ min: 0, max: 20 }),
  });

  test('never more than the limit, never fewer than fit, always the first ones in line', () => {
    fc.assert(
      fc.property(view, (each) => {
        const started = admit(each);
        expect(started).toEqual(each.waiting.slice(0, started.length));
        expect(started.length).toBe(Math.min(each.waiting.length, Math.max(0, each.limit - each.active)));
      }),
    );
  });

  test('the place in line is 1 for the next one, 0 for who is not waiting', () => {
    expect(placeInLine({ waiting: ['a', 'b'] }, 'b')).toBe(2);
    expect(placeInLine({ waiting: ['a'] }, 'x')).toBe(0);
  });

  test('a queue under any sequence of submits, ends, cancels and limits keeps the limit and the order', async () => {
    const action = fc.oneof(
      fc.constant('submit' as const),
      fc.record({ end: fc.nat(5) }),
      fc.record({ cancel: fc.nat(5) }),
      fc.record({ limit: fc.nat(4) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 40 }), async (actions) => {
        let limit = 2;
        let next = 0;
        const started: number[] = [];
        const ends = new Map<string, () => void>();
        const cancelled = new Set<number>();
        const queue = new JobQueue<null, null>({ limit: () => limit, finishedKept: 3, now: () => new Date(0) });
        for (const each of actions) {
          if (each === 'submit') {
            const id = next++;
            queue.submit(String(id), 's', null, () => {
              started.push(id);
              return new Promise((resolve) => ends.set(String(id), () => resolve(null)));
            });
          } else if ('limit' in each) {
            limit = each.limit;
            queue.limitChanged();
          } else if ('end' in each) {
            const running = queue.unfinished().filter((job) => job.state === 'running');
            if (running[each.end]) ends.get(running[each.end]!.id)!();
          } else {
            const waiting = queue.unfinished().filter((job) => job.state === 'queued');
            const job = waiting[each.cancel];
            if (job) {
              cancelled.add(Number(job.id));
              expect(job.cancel(stop)).toBe('cancelled');
            }
          }
          await new Promise((resolve) => setImmediate(resolve));
          const running = queue.unfinished().filter((job) => job.state === 'running').length;
          const waiting = queue.unfinished().filter((job) => job.state === 'queued').length;
          if (waiting > 0) expect(running).toBeGreaterThanOrEqual(limit);
          expect(queue.finished().length).toBeLessThanOrEqual(3);
        }
        expect(started).toEqual([...started].sort((a, b) => a - b));
        expect(started.some((id) => cancelled.has(id))).toBe(false);
      }),
      { numRuns: 60 },
    );
  });
});

describe('a job', () => {
  const make = () => new Job<number, string>('j', 'vm', 0, new Date(0), () => new Date(0));

  test('that is cancelled while it runs ends as cancelled when its work says so', () => {
    const job = make();
    job.start();
    expect(job.cancel(stop)).toBe('requested');
    expect(job.stop.aborted).toBe(true);
    job.settle({ state: 'cancelled', error: stop });
    expect(job.state).toBe('cancelled');
  });

  test('that fails without being asked to stop has failed, whatever its work calls it', () => {
    const job = make();
    job.start();
    job.settle({ state: 'cancelled', error: stop });
    expect(job.state).toBe('failed');
  });

  test('past the point of no return goes back to running and cannot be cancelled', () => {
    const job = make();
    job.start();
    job.cancel(stop);
    job.pointOfNoReturn();
    expect(job.state).toBe('running');
    expect(job.cancel(stop)).toBe('tooLate');
    job.settle({ state: 'succeeded', value: 'ok' });
    expect(job.cancel(stop)).toBe('finished');
  });

  test('keeps its outcome, and reports nothing after it', () => {
    const job = make();
    job.start();
    job.settle({ state: 'succeeded', value: 'ok' });
    job.settle({ state: 'failed', error: stop });
    job.report(5);
    expect([job.outcome, job.progress]).toEqual([{ state: 'succeeded', value: 'ok' }, 0]);
  });

  test('keeps a bounded number of lines, the newest', () => {
    const job = make();
    for (let index = 0; index < 150; index++) job.warn(String(index));
    expect(job.lines).toHaveLength(100);
    expect(job.lines.at(-1)!.text).toBe('149');
  });
});

describe('a queue', () => {
  test('starts resumed work at once, and counts it', async () => {
    const queue = new JobQueue<null, null>({ limit: () => 1, finishedKept: 3, now: () => new Date(0) });
    let end = (): void => undefined;
    queue.submit('old', 'a', null, () => new Promise((resolve) => (end = () => resolve(null))), 'resumed');
    const next = queue.submit('new', 'b', null, async () => null);
    expect(next.state).toBe('queued');
    end();
    expect((await next.finished()).state).toBe('succeeded');
  });

  test('gives the place of a job that is stalled to the next, and stops nobody when it has it again', async () => {
    const queue = new JobQueue<null, null>({ limit: () => 1, finishedKept: 3, now: () => new Date(0) });
    const ends: (() => void)[] = [];
    const work = () => new Promise<null>((resolve) => ends.push(() => resolve(null)));
    const [first, second, third] = ['a', 'b', 'c'].map((id) => queue.submit(id, id, null, work));
    const states = () => [first, second, third].map((job) => job!.state);
    expect(states()).toEqual(['running', 'queued', 'queued']);
    first!.stalled(true);
    first!.stalled(true);
    expect(states()).toEqual(['running', 'running', 'queued']);
    first!.stalled(false);
    expect(states()).toEqual(['running', 'running', 'queued']);
    ends[1]!();
    await second!.finished();
    expect(states()).toEqual(['running', 'succeeded', 'queued']);
    first!.stalled(true);
    ends[0]!();
    await first!.finished();
    expect(first!.isStalled).toBe(false);
    expect(states()).toEqual(['succeeded', 'succeeded', 'running']);
  });

  test('whose line is ended starts none of those that wait, and leaves those that run', async () => {
    const queue = new JobQueue<null, null>({ limit: () => 1, finishedKept: 3, now: () => new Date(0) });
    let end = (): void => undefined;
    const running = queue.submit('a', 'a', null, () => new Promise((resolve) => (end = () => resolve(null))));
    const begun: string[] = [];
    const waiting = ['b', 'c'].map((id) => queue.submit(id, id, null, async () => (begun.push(id), null)));
    queue.cancelWaiting(stop);
    for (const job of waiting) expect(await job.finished()).toEqual({ state: 'cancelled', error: stop });
    end();
    expect((await running.finished()).state).toBe('succeeded');
    expect(begun).toEqual([]);
  });

  test('turns whatever the work throws into an error of ours', async () => {
    const queue = new JobQueue<null, null>({ limit: () => 1, finishedKept: 3, now: () => new Date(0) });
    const job = queue.submit('x', 'a', null, () => Promise.reject(new TypeError('bug')));
    expect(await job.finished()).toMatchObject({ state: 'failed', error: { code: 'HostInternalError', message: 'bug' } });
  });
});
