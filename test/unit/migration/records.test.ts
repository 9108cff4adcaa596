/**
 * Which side a VM is served from when a record of its move is an older copy, lost or damaged: the right one, or none. Each moment of a
 * move in the order of docs/design/0002-the-move.md, and in each of them every record changed for every one it was before.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { LedgerState } from '../../../src/migration/ledger.js';
import type { JournalPhase } from '../../../src/model/move.js';
import { Records, registrySays } from '../../../src/migration/records.js';
import { contradiction, type Found, type RegistrySays } from '../../../src/migration/recover.js';
import { decisionSteps } from '../../../src/migration/resolve.js';
import { Steps, World, allOver, reached, toFolder, vmId } from './world.js';

interface Moment {
  readonly name: string;
  readonly ledger: LedgerState | null;
  readonly journal: JournalPhase | null;
  readonly registry: RegistrySays;
  readonly begun: boolean;
  /** Where the VM's newest data is. */
  readonly right: readonly ('source' | 'target')[];
}

const before = { registry: 'source', right: ['source'] } as const;
const after = { begun: true, right: ['target'] } as const;
const committing: readonly Moment[] = [
  { name: 'asked for', ledger: null, journal: null, begun: false, ...before },
  { name: 'opened', ledger: 'open', journal: null, begun: false, ...before },
  ...(['started', 'copy', 'mirror', 'verify', 'prepared'] as const).map((journal): Moment => ({
    name: journal,
    ledger: 'open',
    journal,
    begun: true,
    ...before,
  })),
  { name: 'committed', ledger: 'open', journal: 'committed', registry: 'source', ...after },
  { name: 'committed, the host knows', ledger: 'committed', journal: 'committed', registry: 'source', ...after },
  { name: 'registered', ledger: 'committed', journal: 'committed', registry: 'target', ...after },
  { name: 'released', ledger: 'committed', journal: 'released', registry: 'target', ...after },
  { name: 'journal removed', ledger: 'committed', journal: null, registry: 'target', ...after },
  { name: 'over', ledger: null, journal: null, registry: 'target', ...after },
];
const undoing: readonly Moment[] = [
  ...committing.slice(0, 7),
  { name: 'cancelled', ledger: 'open', journal: 'cancelled', begun: true, ...before },
  { name: 'undoing', ledger: 'undoing', journal: 'cancelled', begun: false, ...before },
  { name: 'undone', ledger: 'undoing', journal: null, begun: false, ...before },
  { name: 'over', ledger: null, journal: null, begun: false, ...before },
];

/** The side that would be served, or null: none. */
function served(found: Found): 'source' | 'target' | 'other' | null {
  if (contradiction(found) !== null) return null;
  if (found.journal === null) return found.registry;
  return ['committed', 'released', 'deleted'].includes(found.journal) ? 'target' : 'source';
}

/**
 * What these three records cannot tell: while the journal alone knows of COMMITTED, an older copy of it (the engine refuses that by the
 * marks of this boot: native/engine/src/mirror/journal_tests.rs); and an older registry when the move is over and nothing is left of its
 * records (its sources are deleted: there is nothing to serve).
 */
const isRefusedElsewhere = (found: string): boolean => /^(committed, journal of|over, registry of) /.test(found);

describe.each([
  ['that succeeds', committing],
  ['that is undone', undoing],
])('a move %s', (_, moments) => {
  test('is served from the right side at each of its moments', () => {
    expect(moments.filter((moment) => !moment.right.some((side) => side === served(moment))).map(({ name }) => name)).toEqual([]);
  });

  test('is served from the right side or not at all when one record is lost, or is the one of an earlier moment', () => {
    const wrong: string[] = [];
    const changed: string[] = [];
    for (const [at, now] of moments.entries()) {
      for (const record of ['ledger', 'journal', 'registry'] as const) {
        const earlier = moments.slice(0, at).map((was) => ({ when: was.name, value: was[record] as never }));
        const lost = record === 'registry' ? [] : [{ when: 'nothing', value: null as never }];
        for (const { when, value } of [...earlier, ...lost]) {
          const side = served({ ...now, [record]: value });
          if (value !== now[record]) changed.push(`${now.name}, ${record} of ${when}`);
          if (side !== null && !now.right.some((one) => one === side)) wrong.push(`${now.name}, ${record} of ${when}: ${side}`);
        }
      }
    }
    expect(changed.length).toBeGreaterThan(30);
    expect(wrong.filter((one) => !isRefusedElsewhere(one))).toEqual([]);
  });
});

test('registry and ledger that are older both never undo what the journal has committed', () => {
  for (const now of committing.filter(({ journal }) => journal === 'committed' || journal === 'released'))
    for (const then of committing.slice(0, 7).filter(({ ledger }) => ledger === 'open'))
      expect(served({ ...now, ledger: then.ledger, registry: then.registry })).toBe('target');
});

/** The ledger, as Resolve-VMStorageMove may find it: a damaged entry says nothing and is refused beside a journal. */
type FoundLedger = LedgerState | 'damaged' | null;
interface Records3 {
  readonly ledger: FoundLedger;
  readonly journal: JournalPhase | null;
  readonly registry: RegistrySays;
}
const servedNow = ({ ledger, journal, registry }: Records3): ReturnType<typeof served> =>
  ledger !== 'damaged' ? served({ ledger, journal, registry, begun: true }) : journal === null ? registry : null;

test('a decision that is broken off at any step leaves a contradiction, or what was chosen', () => {
  const wrong: string[] = [];
  for (const ledger of ['open', 'committed', 'undoing', 'damaged', null] as const)
    for (const journal of ['copy', 'prepared', 'committed', 'released', 'cancelled', null] as const)
      for (const registry of ['source', 'target', 'other'] as const) {
        const start: Records3 = { ledger, journal, registry };
        if (servedNow(start) !== null) continue;
        for (const use of ['source', 'target'] as const) {
          let now = start;
          for (const step of decisionSteps(journal !== null, registry)) {
            now = { ...now, ...(step === 'registry' ? { registry: use } : { [step]: null }) };
            const side = servedNow(now);
            if (side !== null && side !== use) wrong.push(`${JSON.stringify(start)}, ${use} chosen, after ${step}: ${side}`);
          }
          expect(servedNow(now)).toBe(use);
        }
      }
  expect(wrong).toEqual([]);
});

describe('on disk', () => {
  let world: World;
  beforeEach(() => void (world = new World()));
  afterEach(() => world.destroy());

  /** A move held in verify, its host gone. */
  async function interrupted() {
    world.worker.holdAt = 'verify';
    const steps = new Steps();
    const first = world.host(steps);
    const job = (await first.moves.submit(first.ports.registry.byId(vmId)!, toFolder(world.fast)))!;
    await reached(() => world.worker.steps.includes('mirror'));
    await reached(
      () =>
        fs.readFileSync(ledgerFile(job.id), 'utf8').includes('"bornNs": "1') ||
        fs.readFileSync(ledgerFile(job.id), 'utf8').includes('"bornNs": "0'),
    );
    await steps.kill();
    world.worker.listeners.clear();
    return { id: job.id, ...world.host() };
  }
  const ledgerFile = (moveId: string): string => path.join(world.state, 'moves', `${moveId}.json`);

  test('one byte of a ledger entry changed anywhere is a damaged entry, and its VM is not served', async () => {
    const { id, moves, ports } = await interrupted();
    const file = ledgerFile(id);
    const good = fs.readFileSync(file);
    const { journal } = world.worker.status();
    const records = new Records(ports);
    await records.judge(vmId, journal);
    for (let at = 0; at < good.length; at++) {
      const bad = Buffer.from(good);
      bad[at]! ^= 0x01;
      fs.writeFileSync(file, bad);
      const { entries, unreadable } = await moves.ledger.all();
      expect([entries.length, unreadable.length], `byte ${at}`).toEqual([0, 1]);
      if (at % 50 === 0) await expect(records.judge(vmId, journal), `byte ${at}`).rejects.toThrow('Resolve-VMStorageMove');
    }
    fs.writeFileSync(file, good);
    await records.judge(vmId, journal);
  });

  test('an entry under the name of another move is none', async () => {
    const { id, moves } = await interrupted();
    fs.copyFileSync(ledgerFile(id), ledgerFile('another'));
    const { entries, unreadable } = await moves.ledger.all();
    expect([entries.length, unreadable.length]).toEqual([1, 1]);
  });

  test('a journal that is lost behind the first copy leaves the VM waiting and the targets where they are', async () => {
    const { id, moves, ports } = await interrupted();
    fs.rmSync(world.journal(vmId));
    world.worker.pid = null;
    await moves.start();
    await expect(new Records(ports).judge(vmId, null)).rejects.toThrow(/journal of its move is not there.*Resolve-VMStorageMove/s);
    expect(world.files(world.fast).filter((name) => name.endsWith('.img'))).toHaveLength(2);
    expect(ports.locks.isMoving(vmId)).toBe(true);
    expect(fs.existsSync(ledgerFile(id))).toBe(true);
  });

  test('an older entry beside a registry that names the targets deletes none of them', async () => {
    const { id, moves: first, ports } = await interrupted();
    const older = fs.readFileSync(ledgerFile(id), 'utf8');
    await first.start();
    await first.recover(ports.registry.byId(vmId)!, world.worker.status().journal);
    world.worker.goOn();
    await allOver(first);
    const targets = world.configuration().disks.map((disk) => disk.path);
    expect(targets.every((target) => target.startsWith(world.fast))).toBe(true);
    fs.writeFileSync(ledgerFile(id), older);
    const { moves } = await world.restartHost();
    await reached(() => world.logged.some((line) => line.includes('left alone')));
    // It is shown, and with why: who looks for it must not find the move before it.
    await reached(() => moves.unfinished().length === 0);
    expect(moves.finished()).toMatchObject([
      { state: 'failed', outcome: { error: { message: expect.stringContaining('contradict') as string } } },
    ]);
    expect(targets.every((target) => fs.existsSync(target))).toBe(true);
    // Nor where it had begun to be undone: the host's own look at who owns a file comes last.
    const entry = (await moves.ledger.read(id))!;
    await moves.ledger.write({ ...entry, state: 'undoing', reason: 'restored' });
    await world.restartHost();
    await reached(() => world.logged.some((line) => line.includes('is a disk of a virtual machine')));
    expect(targets.every((target) => fs.existsSync(target))).toBe(true);
  });

  test('where the disks are is read from all of them', async () => {
    const { id, moves } = await interrupted();
    const { plan } = (await moves.ledger.read(id))!;
    const now = world.configuration();
    const at = (paths: readonly string[]) => ({ ...now, disks: now.disks.map((disk, index) => ({ ...disk, path: paths[index]! })) });
    const [one, two] = plan.disks;
    expect(registrySays(plan, at([one!.source, two!.source]))).toBe('source');
    expect(registrySays(plan, at([one!.target, two!.target]))).toBe('target');
    expect(registrySays(plan, at([one!.target, two!.source]))).toBe('other');
    expect(registrySays(plan, undefined)).toBe('other');
  });
});
