/** What is told of a move while worker and host take turns at it. */
import { expect, test } from 'vitest';
import { Tracker, freshStatus } from '../../../src/migration/progress.js';

const moveId = 'c0ffee00-0000-4000-8000-000000000001';
const said = (phase: 'copy' | 'verify' | 'release', percent: number) => ({ ...freshStatus(moveId, phase), percent });

test('a worker that was taken for further than it is does not end what is told of its work', () => {
  const tracker = new Tracker({ moveId }, () => undefined);
  tracker.enter('copy');
  tracker.fromWorker(said('copy', 30));
  tracker.fromWorker(said('release', 30));
  tracker.fromWorker(said('copy', 31));
  expect(tracker.status).toMatchObject({ phase: 'copy', percent: 31 });
});

test('once the host releases the sources, the phase of the worker does not count, nor does it for a move that is taken up there', () => {
  const entered = new Tracker({ moveId }, () => undefined);
  entered.enter('release');
  const takenUp = new Tracker({ moveId }, () => undefined, 'release');
  for (const tracker of [entered, takenUp]) {
    tracker.fromWorker(said('verify', 80));
    expect(tracker.status.phase).toBe('release');
  }
});
