/** The lints see what they are for. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { repository } from '../../support/guest-kernel.js';
import { makeScratch } from '../../support/scratch.js';

/** Findings in a checkout that consists of these files, each opened by a comment. */
async function judge(lint: 'lint-house' | 'lint-layers', files: Record<string, string>): Promise<string[]> {
  await using scratch = await makeScratch('lint');
  execFileSync('git', ['init', '-q'], { cwd: scratch.path });
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(scratch.path, path)), { recursive: true });
    writeFileSync(join(scratch.path, path), path.endsWith('.rs') ? `//! x\n${text}` : path.endsWith('.json') ? text : `/** x */\n${text}`);
  }
  const { status, stderr } = spawnSync(process.execPath, [join(repository, `scripts/${lint}.mjs`), scratch.path], { encoding: 'utf8' });
  const lines = stderr.split('\n').filter((line) => line !== '');
  expect(status).toBe(lines.length === 0 ? 0 : 1);
  return lines;
}

describe('lint-layers', () => {
  it('refuses what the table does not have: imports, re-exports, dynamic imports, types where only values are missing', async () => {
    const found = await judge('lint-layers', {
      'src/os/a.ts':
        "import { b } from '../model/b.js';\nimport { c } from '../cli/c.js';\nexport { d } from '../host/d.js';\nawait import('../jobs/e.js');\n",
      'src/migration/a.ts': "import type { r } from '../registry/r.js';\nimport { s } from '../registry/s.js';\n",
      'src/elsewhere/a.ts': 'export {};\n',
    });
    expect(found.map((line) => line.replace(/ \(.*/, ''))).toEqual([
      'src/elsewhere/a.ts: is in no layer; give its folder a line, with its reason, in scripts/layers.mjs',
      'src/migration/a.ts:3: src/migration may not import src/registry for more than types',
      'src/os/a.ts:3: src/os may not import src/cli',
      'src/os/a.ts:4: src/os may not import src/host',
      'src/os/a.ts:5: src/os may not import src/jobs',
    ]);
  });

  it('refuses crate paths of the engine, in groups too, but not in tests or comments', async () => {
    const found = await judge('lint-layers', {
      'native/engine/src/disk/a.rs':
        'use crate::{disk::Disk, mirror::{Mirror, Event}, reactor};\n// crate::service\nfn f() { crate::formats::open(); }\n#[cfg(test)]\nmod tests {\n    use crate::testing::Oracle;\n}\n',
      'native/engine/src/service/b.rs': 'use crate::mirror::Mirror;\n',
      'native/engine/src/drawer/c.rs': '\n',
    });
    expect(found.map((line) => line.replace(/ \(.*/, ''))).toEqual([
      'native/engine/src/disk/a.rs:2: disk may not use mirror',
      'native/engine/src/disk/a.rs:2: disk may not use reactor',
      'native/engine/src/disk/a.rs:4: disk may not use formats',
      'native/engine/src/drawer/c.rs: native/engine/src/drawer is in no layer; give it a line, with its reason, in scripts/layers.mjs',
    ]);
  });
});

describe('lint-house', () => {
  it('names what breaks a rule, and lets pass what only looks like it', async () => {
    const tooLong = `export const a = [\n${'  1,\n'.repeat(601)}];\n`;
    const found = await judge('lint-house', {
      'src/os/file-utils.ts': 'export {};\n',
      'src/os/long.ts': tooLong,
      'src/os/names.ts': "export const src = 1;\nexport const copied = 'src/os';\nexport const dstPath = 2; // src\n",
      'src/os/later.ts': '// TODO: later\n// TODO #12: later\n',
      'src/os/place.ts': `export const at = '${['', 'root', 'x'].join('/')}';\n`,
      'src/host/shell.ts': "import { PowerShell } from 'node-powershell';\n",
      'src/powershell/shell.ts': "import { PowerShell } from 'node-powershell';\n",
      'native/engine/src/disk/a.rs': 'use napi::Env;\n',
      'Makefile.ts': 'export {};\n',
    });
    expect(found.map((line) => line.replace(/: [^:]*\(.*$/, '').replace(/: (says|has|names|only|does|is) .*/, ''))).toEqual([
      'Makefile.ts: file name',
      'Makefile.ts: top level',
      'native/engine/src/disk/a.rs:2: door: napi',
      'src/host/shell.ts:2: door: node-powershell',
      'src/os/file-utils.ts: file name',
      'src/os/later.ts:2: TODO',
      'src/os/long.ts: length',
      'src/os/names.ts:2: source and target',
      'src/os/names.ts:4: source and target',
      'src/os/place.ts:2: this machine',
    ]);
  });

  it('keeps download addresses out of the lock file, and the lock file in step with package.json', async () => {
    const lock = { packages: { '': { dependencies: { a: '1' } }, 'node_modules/a': { version: '1', resolved: 'x' } } };
    const found = await judge('lint-house', {
      'package.json': JSON.stringify({ dependencies: { a: '2' } }),
      'package-lock.json': JSON.stringify(lock),
    });
    expect(found.map((line) => line.slice(0, 60))).toEqual([
      expect.stringContaining('holds download addresses'),
      expect.stringContaining('does not fit package.json'),
    ]);
  });
});
