/** The set-up says first what it will change of the machine and how to prevent it, and changes nothing where that is said; builds are of the locked versions. */
import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkoutFolder } from '../../../src/powershell/checkout.js';
import { findProgram, lacks } from '../../support/requires.js';

const isDebian = existsSync('/etc/os-release') && /^ID="?debian"?$/m.test(readFileSync('/etc/os-release', 'utf8'));

describe.skipIf(!isDebian || lacks('root', 'flock'))(
  'the set-up, as root on Debian, where QEMU is missing and too old in the release',
  () => {
    let folder: string;
    let calls: string;
    beforeEach(() => {
      folder = mkdtempSync(join(tmpdir(), 'vmst-setup-'));
      calls = join(folder, 'apt-calls');
      for (const name of ['scripts', 'test/guest', 'package.json', 'package-lock.json', 'node_modules/.package-lock.json'])
        cpSync(join(checkoutFolder(), name), join(folder, 'checkout', name), { recursive: true });
      const bin = join(folder, 'bin');
      mkdirSync(bin);
      for (const name of ['sh', 'cat', 'flock']) symlinkSync(findProgram(name)!, join(bin, name));
      // No version is offered and no source is known, so none can be added: nothing of this machine is touched.
      writeFileSync(join(bin, 'apt-cache'), `#!/bin/sh\necho 'Candidate: (none)'\n`, { mode: 0o755 });
      writeFileSync(join(bin, 'apt-get'), `#!/bin/sh\necho "$*" >> ${calls}\ncase "$*" in *update|indextargets*) ;; *) exit 1 ;; esac\n`, {
        mode: 0o755,
      });
    });
    afterEach(() => rmSync(folder, { recursive: true, force: true }));

    async function setUp(words: readonly string[], environment: NodeJS.ProcessEnv = {}): Promise<{ code: number | null; lines: string[] }> {
      const child = spawn(process.execPath, [join(folder, 'checkout/scripts/setup.mjs'), '--tools-only', ...words], {
        env: { PATH: join(folder, 'bin'), HOME: folder, ...environment },
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      let said = '';
      child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
      const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
      return { code, lines: said.trim().split('\n') };
    }

    it('says in its first line what it installs, that it adds a package source, and how to prevent it', async () => {
      const { code, lines } = await setUp(['--quiet']);
      expect(lines[0]).toMatch(
        /^setup: Debian packages: installing on this machine, as root: qemu-system-x86 .*adding the package source \/etc\/apt\//,
      );
      expect(lines[0]).toMatch(/To prevent it: VMSTORAGE_NO_INSTALL=1, or npm run setup -- --no-install/);
      expect(code).toBe(1); // this apt-get knows no sources
      expect(readFileSync(calls, 'utf8')).toContain('update');
    });

    it.each([
      ['--no-install', ['--no-install'], {}],
      ['VMSTORAGE_NO_INSTALL, which npm test and npm run demo hear,', [], { VMSTORAGE_NO_INSTALL: '1' }],
    ])('with %s calls no apt-get, and names what is missing', async (_, words, environment) => {
      const { code, lines } = await setUp(words, environment);
      expect(existsSync(calls)).toBe(false);
      expect(lines.join('\n')).toMatch(
        /missing: qemu-system-x86_64 >= 9.2, needed to run virtual machines; it is not installed by us, as you said/,
      );
      expect(code).toBe(0);
    });
  },
);

it('every build by cargo or npm is of the versions that are locked', () => {
  const read = (name: string): string => readFileSync(join(checkoutFolder(), name), 'utf8');
  const cargo = [
    ['package.json', /napi build [^"]*/],
    ['scripts/test/cargo-suite.ts', /\['test',[^\]]*/],
    ['scripts/check.mjs', /\['clippy',[^\]]*/],
    ['native/fuzz/run.sh', /cargo build [^\n]*/],
  ] as const;
  for (const [file, call] of cargo) expect(call.exec(read(file))?.[0], file).toContain('--locked');
  expect(read('scripts/setup/builds.mjs')).toContain("'npm', ['ci',");
});
