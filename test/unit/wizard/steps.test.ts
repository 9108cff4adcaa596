/** The wizard as a state machine: which page comes after which, what keeps somebody on one, and what is asked of the host in the end. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { movePhases as phasesOfTheHost } from '../../../src/model/move.js';
import { movePhases } from '../../../src/wizard/page/phases.js';
import { placeOf, whyNotMoved, type MachineFacts, type PlaceFacts } from '../../../src/wizard/steps/facts.js';
import { suggestedPlace } from '../../../src/wizard/steps/rows.js';
import { obstacle, openWizard, ordersOf, pages, step, type WizardEvent, type WizardState } from '../../../src/wizard/steps/wizard.js';

function machine(name: string, disks: readonly string[], change: Partial<MachineFacts> = {}): MachineFacts {
  return {
    Id: `id-${name}`,
    Name: name,
    State: 'Running',
    Status: '',
    OperationalStatus: ['Ok'],
    Path: `/slow/${name}`,
    SnapshotFileLocation: `/slow/${name}`,
    SmartPagingFilePath: `/slow/${name}`,
    HardDrives: disks.map((Path) => ({ Name: '', Path })),
    ...change,
  };
}
function place(path: string, free: number, change: Partial<PlaceFacts> = {}): PlaceFacts {
  return { path, bytesFree: String(free), isReadOnly: false, trouble: null, ...change };
}
const places = [place('/', 50), place('/slow', 900), place('/fast', 100), place('/nas', 800, { trouble: 'it does not answer' })];
const web01 = machine('web01', ['/slow/web01/a.vhdx', '/slow/web01/b.img']);
const web02 = machine('web02', ['/slow/web02/a.vhdx']);

const next: WizardEvent = { do: 'next' };
const run = (state: WizardState, ...events: readonly WizardEvent[]): WizardState => events.reduce(step, state);

describe('places', () => {
  it('a path is in the place with the longest mount point above it', () => {
    expect(placeOf('/fast/x', places)?.path).toBe('/fast');
    expect(placeOf('/faster/x', places)?.path).toBe('/');
    expect(placeOf('/fast', places)?.path).toBe('/fast');
  });

  it('preselected is the one with most room that is not its own, not read-only, and answers', () => {
    expect(suggestedPlace(web01, places)?.path).toBe('/fast');
    expect(suggestedPlace(web01, [...places, place('/old', 700, { isReadOnly: true })])?.path).toBe('/fast');
    expect(suggestedPlace(web01, [place('/slow', 1)])).toBeNull();
  });
});

describe('machines', () => {
  it('one that moves already, or has a physical disk, cannot be chosen, and why is told', () => {
    expect(whyNotMoved(web01)).toBeNull();
    expect(whyNotMoved(machine('x', [], { OperationalStatus: ['StorageMigrationPhaseTwo'] }))).toBe('reasonMoving');
    expect(whyNotMoved(machine('x', ['/dev/sdb']))).toBe('reasonPassThrough');
    expect(whyNotMoved(machine('x', ['/dev/shm/a.img']))).toBeNull();
  });
});

describe('pages', () => {
  it('come one after the other, and back, with what was chosen', () => {
    let state = openWizard([web01], places);
    for (const page of pages.slice(0, 5)) {
      expect(state.page).toBe(page);
      state = step(state, next);
    }
    expect(state.page).toBe('performing');
    expect(step(state, { do: 'back' }).page).toBe('performing');
    const chosen = run(openWizard([web01], places), next, next, { do: 'option', option: 'disksOnly', places }, next, { do: 'back' });
    expect(chosen).toMatchObject({ page: 'chooseOptions', option: 'disksOnly' });
  });

  it.each([
    ['no folder', '', 'obstacleNoFolder'],
    ['blanks', '  ', 'obstacleNoFolder'],
    ['a relative folder', 'fast', 'obstacleNotAbsolute'],
    ['a Windows path', 'D:\\VMs', 'obstacleNotAbsolute'],
  ])('%s keeps one on the locations, and the row is named', (_, folder, reason) => {
    const state = run(openWizard([web01], places), next, next, next);
    const wrong = step(state, { do: 'folder', key: state.rows[0]!.key, folder });
    expect(obstacle(wrong)).toEqual({ reason, key: state.rows[0]!.key });
    expect(step(wrong, next).page).toBe('chooseLocations');
  });

  it('two disks never become one file: not by two folders alike, not by one folder for two machines', () => {
    const one = run(openWizard([web01, web02], places), next, next, next);
    const same = one.rows.reduce((state, { key }) => step(state, { do: 'folder', key, folder: '/fast' }), one);
    expect(obstacle(same)).toMatchObject({ reason: 'obstacleSameTarget', key: one.rows[1]!.key });
    expect(obstacle(step(one, { do: 'everythingTo', place: '/fast' }))).toBeNull();
  });

  it('with nothing chosen there is no way on', () => {
    const state = run(openWizard([web02], places), next, next, { do: 'option', option: 'disksOnly', places }, next);
    expect(obstacle(step(state, { do: 'choose', key: state.rows[0]!.key, isChosen: false }))?.reason).toBe('obstacleNothingChosen');
    const none = run(openWizard([machine('x', [])], places), next, next, { do: 'option', option: 'disksOnly', places });
    expect(obstacle(none)?.reason).toBe('obstacleNoDisks');
  });

  it('the phases of the page are those of the host', () => {
    expect(movePhases).toEqual([...phasesOfTheHost]);
  });
});

describe('orders', () => {
  it('everything to one folder', () => {
    const state = step(openWizard([web01], places), { do: 'retainSources', on: true });
    expect(ordersOf(state, ['web01'])).toEqual([
      {
        ...{ vmId: 'id-web01', vmName: 'web01', nameIsUnique: true, retainSources: true, requireFullSize: false },
        destination: { kind: 'single', folder: '/fast' },
      },
    ]);
  });

  it('what is not ticked stays; a machine without anything ticked is not moved; a name twice is no name', () => {
    const state = run(openWizard([web01, web02], places), { do: 'option', option: 'different', places });
    const kept = state.rows.filter(({ vmId, kind }) => vmId === 'id-web02' || kind === 'Configuration' || kind === 'SmartPaging');
    const some = kept.reduce((now, { key }) => step(now, { do: 'choose', key, isChosen: false }), state);
    expect(ordersOf(some, ['web01', 'WEB01', 'web02'])).toEqual([
      {
        ...{ vmId: 'id-web01', vmName: 'web01', nameIsUnique: false, retainSources: false, requireFullSize: false },
        destination: {
          ...{ kind: 'multiple', virtualMachinePath: null, snapshotFilePath: '/fast/web01', smartPagingFilePath: null },
          disks: [
            { source: '/slow/web01/a.vhdx', target: '/fast/web01/a.vhdx' },
            { source: '/slow/web01/b.img', target: '/fast/web01/b.img' },
          ],
        },
      },
    ]);
  });

  const event = fc.oneof(
    fc.constantFrom<WizardEvent>({ do: 'next' }, { do: 'back' }, { do: 'retainSources', on: true }, { do: 'everythingTo', place: '/fast' }),
    fc
      .constantFrom('single', 'different', 'disksOnly')
      .map((option): WizardEvent => ({ do: 'option', option: option as 'single', places })),
    fc.record({ row: fc.nat(8), folder: fc.constantFrom('', '/fast', '/nas/x', 'x') }),
    fc.record({ row: fc.nat(8), isChosen: fc.boolean() }),
  );

  it('whatever somebody clicks: what reaches the host has a folder for each item, and never one file for two disks', () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 40 }), (events) => {
        let state = openWizard([web01, web02], places);
        for (const one of events) {
          if ('do' in one) state = step(state, one);
          else {
            const key = state.rows[one.row % Math.max(1, state.rows.length)]?.key ?? '';
            state = step(
              state,
              'folder' in one ? { do: 'folder', key, folder: one.folder } : { do: 'choose', key, isChosen: one.isChosen },
            );
          }
        }
        if (state.page !== 'summary' || obstacle(state)) return;
        const orders = ordersOf(state, ['web01', 'web02']);
        expect(orders.length).toBeGreaterThan(0);
        const targets = orders.flatMap(({ destination }) =>
          destination.kind === 'multiple' ? destination.disks.map(({ target }) => target) : [],
        );
        expect(new Set(targets).size).toBe(targets.length);
        for (const { destination } of orders) {
          const folders =
            destination.kind === 'single'
              ? [destination.folder]
              : [
                  destination.virtualMachinePath,
                  destination.snapshotFilePath,
                  destination.smartPagingFilePath,
                  ...destination.disks.map((d) => d.target),
                ];
          for (const folder of folders) if (folder !== null) expect(folder).toMatch(/^\//);
        }
      }),
    );
  });
});
