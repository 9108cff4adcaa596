/**
 * The independent comparison: every byte of every disk against the ledger the guest kept of it. A VHDX is judged twice, by our reader,
 * also behind what the guest uses, and by qemu-img's, which also checks its structure.
 */
import { execFile } from 'node:child_process';
import { copyFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { native } from '../../src/native/binding.js';
import { callNative } from '../../src/native/errors.js';
import { findProgram } from '../../test/support/requires.js';
import type { CrashInstance, Side } from './instance.js';
import { SPAN_BYTES } from './shapes.js';

const run = promisify(execFile);
const BLOCK_BYTES = 4096;
const MIB = 2 ** 20;

export interface Comparison {
  readonly blocksChecked: number;
  readonly lostBytes: number;
  readonly findings: readonly string[];
}

export const qemuImgMissing = (): string | null =>
  findProgram('qemu-img') ? null : 'there is no qemu-img: each VHDX is judged by our reader alone';

export async function compare(instance: CrashInstance, side: Side): Promise<Comparison> {
  let [blocksChecked, blocksWrong] = [0, 0];
  const findings: string[] = [];
  const judge = async (path: string, format: string, index: number, reader: string): Promise<void> => {
    const verdict = await callNative(native().verifyByLedger(path, format, instance.ledger(index)));
    blocksChecked += Number(verdict.blocksChecked);
    blocksWrong += Number(verdict.blocksWrong);
    if (verdict.blocksWrong > 0n)
      findings.push(
        `${path}, read by ${reader}: ${verdict.blocksWrong} of ${verdict.blocksChecked} blocks are wrong: ${verdict.firstWrong}`,
      );
  };
  for (const [index, disk] of instance.shape.disks.entries()) {
    const path = instance.image(side, disk);
    await judge(path, disk.format, index, 'us');
    if (disk.format === 'raw' || qemuImgMissing() !== null) continue;
    const copy = join(instance.folder, `copy-of-${disk.leaf}`);
    const plain = `${copy}.raw`;
    await copyFile(path, copy);
    try {
      await run('qemu-img', ['check', '-r', 'all', '-f', disk.format, copy]);
      // The part the guest uses: a plain file of 64 TiB is more than most file systems take. Our reader has looked behind it.
      await run('qemu-img', ['dd', '-f', disk.format, '-O', 'raw', `bs=${MIB}`, `count=${SPAN_BYTES / MIB}`, `if=${copy}`, `of=${plain}`]);
      await judge(plain, 'raw', index, 'qemu-img');
    } catch (error) {
      findings.push(`qemu-img does not accept ${path}: ${error instanceof Error ? error.message : String(error)}`);
    } finally {
      await Promise.all([rm(copy, { force: true }), rm(plain, { force: true })]);
    }
  }
  return { blocksChecked, lostBytes: blocksWrong * BLOCK_BYTES, findings };
}
