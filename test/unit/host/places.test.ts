/** Free space and load of file systems, also of those that hang, change and vanish. */
import { afterEach, expect, test } from 'vitest';
import { Places, type PlaceSystem } from '../../../src/host/places.js';

const GIB = 2n ** 30n;
const mounted = new Map<string, string>();
let diskstats = '';
let answers: (path: string) => Promise<{ total: bigint; free: bigint } | null>;
const asked: string[] = [];
const system: PlaceSystem = {
  mountinfo: async () => [...mounted].map(([path, device]) => `1 0 ${device} / ${path} rw - ext4 /dev/x rw`).join('\n'),
  diskstats: async () => diskstats,
  room: (path) => (asked.push(path), answers(path)),
};
let nowMs = 1000;
const open: (() => void)[] = [];
const places = (): Places => new Places(() => nowMs, system);
afterEach(() => {
  for (const end of open.splice(0)) end();
  mounted.clear();
  asked.length = 0;
});

test('who subscribes is told of what changed and of nothing else', async () => {
  mounted.set('/a', '8:1').set('/b', '8:2');
  let free = 5n * GIB;
  answers = async (path) => ({ total: 10n * GIB, free: path === '/a' ? free : GIB });
  const some = places();
  await some.look();
  const told: string[] = [];
  open.push(some.subscribe((path) => told.push(path)));
  await some.look();
  expect(told).toEqual([]);
  free -= 4096n; // less than a step
  await some.look();
  free = 3n * GIB;
  await some.look();
  expect(told).toEqual(['/a', '/a']); // 5 GiB less a page is another step of a MiB
  mounted.delete('/b');
  await some.look();
  expect(told.at(-1)).toBe('/b');
  expect(some.get('/b')).toBeNull();
});

test('load is of the time between two looks', async () => {
  mounted.set('/a', '8:1');
  answers = async () => ({ total: GIB, free: GIB });
  const some = places();
  diskstats = '8 1 sda1 0 0 0 0 0 0 0 0 0 1000 0';
  await some.look();
  expect(some.get('/a')).toMatchObject({ busyPercent: null, bytesReadPerSecond: null });
  nowMs += 2000;
  diskstats = '8 1 sda1 0 0 8192 0 0 0 4096 0 0 1500 0';
  await some.look();
  expect(some.get('/a')).toMatchObject({ busyPercent: 25, bytesReadPerSecond: 2 ** 21, bytesWrittenPerSecond: 2 ** 20 });
});

test('one that hangs is named, asked once, and keeps no more than two threads of the pool', async () => {
  mounted.set('/fine', '8:1').set('/hangs-1', '8:2').set('/hangs-2', '8:3').set('/later', '8:4');
  const wake: (() => void)[] = [];
  answers = (path) =>
    path.startsWith('/hangs')
      ? new Promise((resolve) => wake.push(() => resolve({ total: GIB, free: GIB })))
      : Promise.resolve({ total: GIB, free: GIB });
  const some = places();
  await some.look();
  await some.look();
  expect(asked.filter((path) => path.startsWith('/hangs'))).toEqual(['/hangs-1', '/hangs-2']);
  expect(asked).not.toContain('/later');
  expect(some.get('/hangs-1')).toMatchObject({ trouble: 'it does not answer' });
  expect(some.get('/later')).toMatchObject({ trouble: expect.stringContaining('not asked') as string });
  answers = async () => ({ total: GIB, free: GIB });
  for (const one of wake) one();
  await new Promise((resolve) => setImmediate(resolve));
  await some.look();
  expect((await some.all()).map(({ trouble }) => trouble)).toEqual([null, null, null, null]);
});

test('one that is no folder, or too small for a disk, is no place; one that cannot be looked at says why', async () => {
  mounted.set('/file', '8:1').set('/gone', '8:2').set('/tiny', '8:3');
  answers = async (path) => {
    if (path === '/file') return null;
    if (path === '/tiny') return { total: 4096n, free: 0n };
    throw Object.assign(new Error('ENOENT'), { code: 'ENOENT' });
  };
  expect(await places().all()).toMatchObject([{ path: '/gone', trouble: expect.any(String) as string }]);
});
