/**
 * The guest for machines without QEMU: a vhost-user-blk client in the addon that does the same verified writes
 * (src/hypervisor/built-in.ts). The demo uses it when there is no QEMU or no kernel for the test guest, or when
 * VMSTORAGE_HYPERVISOR=built-in asks for it. It keeps a ledger of what every block may hold, so its disks begin blank.
 */
import { execFile } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ledgerFolder } from '../../src/hypervisor/built-in.js';
import { native } from '../../src/native/binding.js';
import { callNative } from '../../src/native/errors.js';
import { findGuestKernel } from '../../test/support/guest-kernel.js';
import { findProgram } from '../../test/support/requires.js';
import type { DiskCheck, ImageFormat } from './disks.js';

const run = promisify(execFile);
const MIB = 1024 * 1024;
/** As much as the test guest is told to do (scripts/demo/story.ts), over a part large enough to be worth moving. */
const LOAD = { queueDepth: 4, rate: 300, flushEvery: 4, spanBytes: 256 * MIB, hotBytes: 16 * MIB, zeroPercent: 2 };

/** What a host with the built-in guest gets in its environment. */
export const builtInEnvironment = { VMSTORAGE_HYPERVISOR: 'built-in', VMSTORAGE_BUILT_IN_GUEST: JSON.stringify(LOAD) };

/** Why the built-in guest has to be used here; null when a real one can run. */
export function noRealGuest(): string | null {
  if (process.env['VMSTORAGE_HYPERVISOR'] === 'built-in') return 'VMSTORAGE_HYPERVISOR=built-in';
  const program = ['qemu-system-x86_64', 'qemu-img'].find((name) => findProgram(name) === null);
  if (program !== undefined) return `there is no ${program} here`;
  return findGuestKernel() ? null : 'there is no kernel for the test guest here';
}

/** Every byte of the image against the guest's ledger; a VHDX is turned into plain bytes by qemu-img where there is one. */
export async function checkByLedger(
  image: string,
  format: ImageFormat,
  vmLogFolder: string,
  index: number,
  scratchRaw: string,
): Promise<DiskCheck> {
  const ledger = join(ledgerFolder(vmLogFolder), `disk${index}.ledger`);
  const byPeer = format === 'vhdx' && findProgram('qemu-img') !== null;
  const findings: string[] = [];
  if (byPeer) {
    await run('qemu-img', ['check', '-f', format, image]).catch((error: Error & { stdout?: string; stderr?: string }) => {
      findings.push(`qemu-img check does not accept it: ${`${error.stdout ?? ''}${error.stderr ?? ''}`.trim()}`);
    });
    await run('qemu-img', ['convert', '-f', format, '-O', 'raw', image, scratchRaw]);
  }
  try {
    const verdict = await callNative(native().verifyByLedger(byPeer ? scratchRaw : image, byPeer ? 'raw' : format, ledger));
    if (verdict.blocksWrong > 0n) findings.push(String(verdict.firstWrong));
    return {
      blocksChecked: Number(verdict.blocksChecked),
      blocksWrong: Number(verdict.blocksWrong),
      findings: findings.map((text) => `${image}: ${text}`),
    };
  } finally {
    if (byPeer) await rm(scratchRaw, { force: true });
  }
}
