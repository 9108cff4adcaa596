/** A guest that prints without end, to the console QEMU holds open: the file stays within its limit, QEMU lives, and what is cut makes room. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ignoringFileLimit, limitFiles } from '../../src/hypervisor/file-limit.js';
import { boundLog } from '../../src/os/bounded-logs.js';
import { lacks } from '../support/requires.js';
import { makeScratch } from '../support/scratch.js';
import { until } from '../support/until.js';

/** mov dx, 3f8; mov al, 'A'; again: out dx, al; jmp again */
const FLOOD = Buffer.from('baf803b041eeebfd', 'hex');
const LIMIT_BYTES = 256 * 1024;

describe.skipIf(lacks('qemu-system-x86_64'))('a guest that floods its console', () => {
  it('fills the file to the limit and no further, and goes on when it is cut', async () => {
    await using scratch = await makeScratch('flood');
    const [image, log] = [join(scratch.path, 'boot.img'), join(scratch.path, 'console.log')];
    const sector = Buffer.alloc(1024 * 1024);
    FLOOD.copy(sector);
    sector.writeUInt16LE(0xaa55, 510);
    writeFileSync(image, sector);
    writeFileSync(log, '');
    const { command, args } = ignoringFileLimit('qemu-system-x86_64', [
      ...['-nodefaults', '-no-user-config', '-display', 'none', '-machine', 'q35', '-accel', 'tcg'],
      ...['-object', 'memory-backend-memfd,id=mem,size=64M,share=on', '-m', '64M', '-machine', 'memory-backend=mem'],
      ...['-blockdev', JSON.stringify({ driver: 'file', 'node-name': 'boot', filename: image, 'read-only': true })],
      ...['-device', 'virtio-blk-pci,drive=boot,bootindex=1'],
      ...['-chardev', `file,id=serial,path=${log},append=on`, '-serial', 'chardev:serial'],
    ]);
    const qemu = spawn(command, args, { stdio: 'ignore' });
    try {
      await until('the guest prints', () => statSync(log).size > 0 || undefined);
      await limitFiles(qemu.pid!, null, LIMIT_BYTES);
      truncateSync(log); // it may have printed more than that already
      await until('the limit is reached', () => statSync(log).size === LIMIT_BYTES || undefined);
      expect(qemu.exitCode).toBeNull();
      // As the host does each second: the end is kept, and there is room again.
      expect(await boundLog(log, LIMIT_BYTES / 2)).toBe(true);
      expect(statSync(`${log}.1`).size).toBe(LIMIT_BYTES / 2);
      await until('it is filled again', () => statSync(log).size === LIMIT_BYTES || undefined);
      expect([qemu.exitCode, qemu.signalCode]).toEqual([null, null]);
    } finally {
      qemu.kill('SIGKILL');
      await once(qemu, 'exit');
    }
  });
});
