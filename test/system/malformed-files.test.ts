/** One file of the state folder that is not what was written: the host starts for all the others, names it, and leaves it as it is. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, linkSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { Instance } from '../support/instance.js';

vi.setConfig({ testTimeout: 90_000, hookTimeout: 60_000 });

const MOVE = '11111111-0000-4000-8000-000000000001';
const MB = 2 ** 20;

/** As a ledger's entry is sealed: whoever can write the file can seal it too. */
function sealed(content: object): string {
  const text = `${JSON.stringify({ ...content, sha256: '0'.repeat(64) }, null, 1)}\n`;
  return text.replace('0'.repeat(64), createHash('sha256').update(text).digest('hex'));
}

const deep = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels);

const contents: readonly (readonly [string, (file: string) => void])[] = [
  ['bytes', (file) => writeFileSync(file, Buffer.from([0xff, 0xfe, 0, 1, 2, 0x1b, 0x5b, 0x32, 0x4a]))],
  ['nothing', (file) => writeFileSync(file, '')],
  ['JSON of something else', (file) => writeFileSync(file, 'null')],
  ['deep nesting', (file) => writeFileSync(file, deep(200_000))],
  ['too much', (file) => writeFileSync(file, Buffer.alloc(17 * MB, 0x20))],
  ['a folder', (file) => mkdirSync(file)],
  ['a pipe', (file) => void execFileSync('mkfifo', [file])],
];

const sealedContents: readonly (readonly [string, (file: string) => void])[] = [
  [
    'a sealed entry without a plan',
    (file) => writeFileSync(file, sealed({ schema: 2, state: 'open', plan: { moveId: MOVE }, targets: [] })),
  ],
  [
    'a sealed entry of the wrong types',
    (file) =>
      writeFileSync(
        file,
        sealed({
          schema: 2,
          state: 'open',
          plan: { moveId: MOVE, vmId: 5, disks: 'all', after: null },
          targets: [null],
          needs: {},
          openedAt: {},
        }),
      ),
  ],
  [
    'a sealed entry in a state of objects',
    (file) => writeFileSync(file, sealed({ schema: 2, state: 'constructor', plan: { moveId: MOVE, disks: [] }, targets: [] })),
  ],
];

describe('a malformed file of the state folder', () => {
  let instance: Instance;
  let vmId: string;
  let configuration: string;
  beforeAll(async () => {
    instance = await Instance.start('malformed');
    await instance.run('New-VM', { Name: 'good', Path: join(instance.folder, 'good') });
    const [vm] = await instance.run('New-VM', { Name: 'bad', Path: join(instance.folder, 'bad') });
    vmId = String(vm!['Id']);
    configuration = join(instance.folder, 'bad', 'Virtual Machines', `${vmId}.vmcx`);
    await instance.stopHost();
    cpSync(instance.home, join(instance.folder, 'kept'), { recursive: true, filter: (file) => !statSync(file).isSocket() });
    // A second name and no copy: the host believes no file that it has not written.
    linkSync(configuration, join(instance.folder, 'kept.vmcx'));
  });
  afterAll(() => instance[Symbol.asyncDispose]());

  /** What a host says that is started beside these files, all of which are as they were afterwards. */
  async function startBeside(files: readonly string[], write: (file: string) => void) {
    const before = new Map<string, Buffer | null>();
    for (const file of files) {
      rmSync(file, { recursive: true, force: true });
      write(file);
      before.set(file, statSync(file).isFile() ? readFileSync(file) : null);
    }
    rmSync(instance.paths.hostLog, { force: true });
    try {
      await instance.startHost();
      const { output, errors } = await instance.collect('Get-VM', {});
      const host = await instance.collect('Get-VMHost', {});
      const refused = await instance.collect('Set-VMHost', { MaximumStorageMigrations: 5 });
      await instance.stopHost();
      for (const [file, bytes] of before) {
        if (bytes === null) expect(statSync(file).isFile()).toBe(false);
        else expect(readFileSync(file).equals(bytes), file).toBe(true);
      }
      return { names: output.map((vm) => vm['Name']), errors, host, refused, log: readFileSync(instance.paths.hostLog, 'utf8') };
    } finally {
      await instance.stopHost();
      for (const file of files) rmSync(file, { recursive: true, force: true });
      rmSync(configuration, { recursive: true, force: true });
      linkSync(join(instance.folder, 'kept.vmcx'), configuration);
    }
  }

  it.each(contents)('is %s: record, journal, configuration, receipt and settings are named, and all else is served', async (_, write) => {
    const { paths } = instance;
    const [record, receipt] = [join(paths.movesFolder, `${MOVE}.json`), join(paths.stateFolder, 'receipts', `${MOVE}.json`)];
    mkdirSync(join(paths.stateFolder, 'receipts'), { recursive: true });
    // What is only a memory is made anew.
    for (const file of [paths.runningFile, paths.acceleratorFile, paths.tokenFile]) {
      rmSync(file, { recursive: true, force: true });
      write(file);
    }
    const files = [record, receipt, paths.journal(vmId), configuration, paths.settingsFile];
    const { names, errors, host, refused, log } = await startBeside(files, write);
    expect(names).toEqual(['good']);
    expect(errors.map(({ message }) => message).join()).toContain(configuration);
    for (const file of [record, receipt, configuration, paths.settingsFile]) expect(log).toContain(JSON.stringify(file).slice(1, -1));
    expect(host.output[0]).toMatchObject({ MaximumStorageMigrations: 2 });
    expect(host.warnings.join()).toContain(paths.settingsFile);
    expect(refused.errors[0]).toMatchObject({ code: 'InvalidState' });
    rmSync(paths.acceleratorFile, { recursive: true, force: true });
  });

  it("is the journal of a machine's move, whose configuration is right: the machine is shown, and the others with it", async () => {
    for (const [, write] of contents.filter(([what]) => what === 'bytes' || what === 'a pipe')) {
      const { names, log } = await startBeside([instance.paths.journal(vmId)], write);
      expect(names).toEqual(['bad', 'good']);
      expect(log).toContain(vmId);
    }
  });

  it.each(sealedContents)('is the record of a move, and %s', async (_, write) => {
    const file = join(instance.paths.movesFolder, `${MOVE}.json`);
    const { names, log } = await startBeside([file], write);
    expect(names).toEqual(['bad', 'good']);
    expect(log).toContain(file);
  });
});
