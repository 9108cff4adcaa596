/** The demo's judgement, on a real guest whose disks QEMU's own mirror moves: a good move is proven, a spoiled one is not. */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { mkdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { judge, renderReport, type DemoReport } from '../../scripts/demo/report.js';
import { tellStory } from '../../scripts/demo/story.js';
import { MirrorShell, putBack } from '../support/mirror-shell.js';
import { lacks } from '../support/requires.js';
import { makeScratch } from '../support/scratch.js';

async function tell(spoil?: (targets: readonly string[], slow: string) => Promise<void>): Promise<DemoReport> {
  await using scratch = await makeScratch('story');
  const [home, slow] = [join(scratch.path, 'home'), join(scratch.path, 'slow')];
  mkdirSync(home);
  await using shell = new MirrorShell(home, (targets) => spoil?.(targets, slow) ?? Promise.resolve());
  const phases: string[] = [];
  const said: string[] = [];
  const findings = await tellStory({
    ...{
      home,
      slow,
      fast: join(scratch.path, 'fast'),
      work: scratch.path,
      shell,
      say: (text) => void said.push(text),
      stopped: new AbortController().signal,
    },
    progress: ({ phase, percent }) => phases.push(`${phase} ${percent}`),
    progressEnded: () => phases.push('ended'),
  });
  expect(said.at(-1)).toBe('Remove-VM');
  expect(phases.at(-1)).toBe('ended');
  expect(phases.length).toBeGreaterThan(1);
  return judge(findings);
}

describe.skipIf(lacks('qemu-system-x86_64', 'qemu-img', 'guest'))("the demo's judgement", () => {
  it('proves a move that was right', async () => {
    const report = await tell();
    expect(report).toMatchObject({
      ok: true,
      problems: [],
      guest: 'qemu-tcg',
      guestIoErrors: 0,
      blocksWrong: 0,
      sourceGone: true,
      viaPowerShell: false,
      powershell: null,
      blackoutMs: 0.9,
    });
    // 1 GiB and 512 MiB, all of it.
    expect(report.blocksChecked).toBe((1536 * 1024 * 1024) / 4096);
    expect(report.guestMaxLatencyMsBefore).toBeGreaterThan(0);
    expect(renderReport(report)).toContain('The move is proven.');
  });

  it("does not prove one wrong byte, in the guest's part or beside it, nor a source that is still there", async () => {
    const report = await tell(async ([vhdx, raw], slow) => {
      await using file = await open(raw!, 'r+');
      const piece = Buffer.alloc(1);
      for (const at of [4096 * 5 + 100, 200 * 1024 * 1024 + 3]) {
        await file.read(piece, 0, 1, at);
        piece[0]! ^= 1;
        await file.write(piece, 0, 1, at);
      }
      await putBack([vhdx!], slow);
    });
    expect(report).toMatchObject({ ok: false, blocksWrong: 2, sourceGone: false });
    expect(report.problems.join('\n')).toMatch(/block 5 [^]*block 51200 [^]*system\.vhdx is still there/);
    expect(renderReport(report)).toContain('NOT PROVEN');
  });
});
