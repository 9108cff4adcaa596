/** What the systemd unit has to say so that a restart of the host leaves workers and guests alone, and only root may ask them anything. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { instancePaths } from '../../../src/os/paths.js';
import { repository } from '../../support/guest-kernel.js';
import { STOP_LIMIT_SECONDS } from '../../../src/protocol/host-commands.js';
import { guestsUnitFile, unitSection } from '../../support/service-unit.js';

describe('the systemd unit', () => {
  const service = unitSection('Service');
  const { stateFolder, runFolder } = instancePaths({});

  test('ends the host alone: its workers and guests stay', () => {
    expect(service).toMatchObject({ KillMode: 'process' });
    expect(service['OOMPolicy']).toBe('continue'); // one guest killed for its memory must not end the others
    expect(Object.keys(service).filter((name) => /^(Memory(Max|High)|CPUQuota|SendSIGHUP|FinalKillSignal|ExecStop)/.test(name))).toEqual(
      [],
    );
  });

  test('has the host back whatever ended it, and knows at once when it cannot be run', () => {
    expect(service).toMatchObject({ Type: 'exec', Restart: 'always', TasksMax: 'infinity' });
    expect(Number(service['RestartSec'])).toBeGreaterThan(0);
  });

  test('keeps the sockets of running workers and guests over a restart, for root alone', () => {
    expect(join('/run', service['RuntimeDirectory']!)).toBe(runFolder);
    expect(join('/var/lib', service['StateDirectory']!)).toBe(stateFolder);
    expect(service).toMatchObject({
      RuntimeDirectoryPreserve: 'yes',
      RuntimeDirectoryMode: '0700',
      StateDirectoryMode: '0700',
      UMask: '0077',
    });
    expect(unitSection('Unit')).toMatchObject({ RequiresMountsFor: stateFolder });
    // A /home, /tmp or /dev of the unit's own would hide disks from others; ProtectClock and DeviceAllow allow devices by name, and disks may be any.
    const hides =
      /^(PrivateTmp|PrivateDevices|PrivateUsers|ProtectHome|ProtectProc|ProcSubset|ProtectClock|Device(Allow|Policy)|Dynamic|Root|Inaccessible|Temporary)/;
    expect(Object.keys(service).filter((name) => hides.test(name))).toEqual([]);
    expect(service['ProtectSystem']).toBe('full'); // `strict` would make every other folder read-only
  });

  test('lets the host do what it does: guests with users and roots of their own, files of anybody, signals', () => {
    const has = service['CapabilityBoundingSet']!.split(' ');
    for (const name of ['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'KILL', 'SETUID', 'SETGID', 'SETPCAP', 'SYS_ADMIN', 'SYS_CHROOT', 'SYS_PTRACE'])
      expect(has).toContain(`CAP_${name}`);
    expect(service['RestrictNamespaces']!.split(' ').sort()).toEqual(['ipc', 'mnt', 'net', 'uts']);
    expect(service['SystemCallFilter']).not.toMatch(/@(mount|privileged|resources|process|setuid)/);
    expect(service['MemoryDenyWriteExecute']).toBeUndefined(); // Node and QEMU write the code they run
    expect(service['RestrictAddressFamilies']).toBe('AF_UNIX');
  });

  test('starts the program that is built', () => {
    const [, program, ...options] = service['ExecStart']!.split(' ');
    expect(program).toMatch(/^\/usr\/lib\/vmstorage\/dist\/src\//);
    const source = program!.replace('/usr/lib/vmstorage/dist', repository).replace(/\.js$/, '.ts');
    expect(existsSync(source)).toBe(true);
    expect(options).toEqual(['--log', '-']); // the journal
  });
});

describe('the systemd unit of the guests', () => {
  const unit = unitSection('Unit', guestsUnitFile);
  const service = unitSection('Service', guestsUnitFile);

  test('is stopped before the host and before file systems and network, and never with the host alone', () => {
    const after = unit['After']!.split(' ');
    for (const name of ['vmstorage.service', 'local-fs.target', 'remote-fs.target', 'network.target']) expect(after).toContain(name);
    expect(unit['Wants']).toBe('vmstorage.service');
    // Each of these would have guests shut down by a mere restart of the host.
    expect(Object.keys(unit).filter((name) => /^(Requires|Requisite|BindsTo|PartOf|StopPropagatedFrom)$/.test(name))).toEqual([]);
  });

  test('stays active after its start, so that there is something to stop, and gives guests their time', () => {
    expect(service).toMatchObject({ Type: 'oneshot', RemainAfterExit: 'yes' });
    const [, limit] = / host stop-guests --limit (\d+)$/.exec(service['ExecStop']!)!;
    expect(Number(limit)).toBe(STOP_LIMIT_SECONDS.default);
    expect(Number(service['TimeoutStopSec'])).toBeGreaterThanOrEqual(Number(limit) + 60);
    // Where the start has failed systemd runs no ExecStop: no guest would be shut down.
    expect(service['ExecStart']).toMatch(/^-.* host start-guests$/);
  });

  test('runs the program that is built', () => {
    for (const command of [service['ExecStart']!, service['ExecStop']!]) {
      const source = command.split(' ')[1]!.replace('/usr/lib/vmstorage/dist', repository).replace(/\.js$/, '.ts');
      expect(existsSync(source)).toBe(true);
    }
  });
});
