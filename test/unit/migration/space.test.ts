/** Room is promised to one move at a time. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Space, type SpaceNeed } from '../../../src/migration/space.js';

function world(freeBytes: bigint) {
  const written = new Map<string, bigint>();
  const space = new Space({
    freeBytes: async () => freeBytes - [...written.values()].reduce((a, b) => a + b, 0n),
    facts: async (at) =>
      written.has(at)
        ? { kind: 'file', device: 1n, inode: 1n, bornNs: 1n, hardLinks: 1, sizeBytes: written.get(at)!, allocatedBytes: written.get(at)! }
        : null,
  });
  return { space, written };
}

const need = (target: string, bytes: bigint, device = '1', more: Partial<SpaceNeed> = {}): SpaceNeed => ({
  ...{ target, device, folder: '/mnt', bytes },
  ...{ data: bytes, most: bytes, returned: 0n, ...more },
});

describe('space', () => {
  test('two moves cannot both count on the same bytes, even when they ask at the same time', async () => {
    const { space } = world(100n);
    const both = await Promise.allSettled([space.promise('a', [need('/mnt/a', 60n)]), space.promise('b', [need('/mnt/b', 60n)])]);
    expect(both.map((one) => one.status)).toEqual(['fulfilled', 'rejected']);
    expect(both[1]).toMatchObject({ reason: { code: 'NoSpace', message: expect.stringContaining('promised to other moves') as string } });
  });

  test('what a move has written already is not counted twice', async () => {
    const { space, written } = world(100n);
    await space.promise('a', [need('/mnt/a', 60n)]);
    written.set('/mnt/a', 60n);
    await expect(space.promise('b', [need('/mnt/b', 40n)])).resolves.toBeDefined();
  });

  test('what is needed now decides; what may be needed later is a warning with both figures', async () => {
    const GB = 2n ** 30n;
    const { space } = world(2n * GB);
    const thin = need('/mnt/a', GB, '1', { data: GB / 2n, most: 1024n * GB });
    const [warning] = await space.check([thin]);
    expect(warning).toContain("need 1.0 GB at '/mnt' now and may grow to 1024.0 GB; there is room for 2.0 GB, 1022.0 GB less");
    expect(warning).toContain('-RequireFullSize');
    await expect(space.check([{ ...thin, bytes: thin.most }])).rejects.toMatchObject({ code: 'NoSpace' });
    await expect(space.check([{ ...thin, bytes: 3n * GB, data: 2n * GB }])).rejects.toMatchObject({
      code: 'NoSpace',
      message: expect.stringContaining('3.0 GB are needed now (the data and a reserve), 2.0 GB are free') as string,
    });
    expect(await space.check([{ ...thin, most: 2n * GB }])).toEqual([]);
  });

  test('within one file system what the source gives back counts for later, not for now', async () => {
    const { space } = world(100n);
    expect(await space.check([need('/mnt/a', 60n, '1', { most: 150n, returned: 60n })])).toEqual([]);
    expect(await space.check([need('/mnt/a', 60n, '1', { most: 161n, returned: 60n })])).toHaveLength(1);
    await expect(space.check([need('/mnt/a', 101n, '1', { most: 150n, returned: 60n })])).rejects.toMatchObject({ code: 'NoSpace' });
  });

  test('other file systems do not count', async () => {
    const { space } = world(100n);
    await space.promise('a', [need('/mnt/a', 60n, '1')]);
    await expect(space.promise('b', [need('/mnt/b', 60n, '2')])).resolves.toBeDefined();
  });

  test('released room can be promised again', async () => {
    const { space } = world(100n);
    (await space.promise('a', [need('/mnt/a', 60n)])).release();
    await expect(space.promise('b', [need('/mnt/b', 100n)])).resolves.toBeDefined();
  });

  test('whatever is asked and written in whatever order, promises never exceed what there was', async () => {
    const action = fc.record({ bytes: fc.bigInt(0n, 80n), write: fc.bigInt(0n, 80n), release: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.bigInt(0n, 200n), fc.array(action, { maxLength: 12 }), async (free, actions) => {
        const { space, written } = world(free);
        let held = 0n;
        for (const [index, { bytes, write, release }] of actions.entries()) {
          const target = `/mnt/${index}`;
          const promise = await space.promise(target, [need(target, bytes)]).catch(() => null);
          if (!promise) continue;
          if (release) {
            promise.release();
            continue;
          }
          held += bytes;
          written.set(target, write < bytes ? write : bytes);
          expect(held <= free).toBe(true);
        }
      }),
    );
  });
});
