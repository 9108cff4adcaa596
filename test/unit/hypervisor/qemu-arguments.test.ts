/** What QEMU is told, which QEMU may be told it, and what it runs on. */
import { describe, expect, it } from 'vitest';
import type { HardDisk, VmConfiguration } from '../../../src/model/vm.js';
import { chooseAccelerator, type Accelerator } from '../../../src/hypervisor/accelerator.js';
import { type MachineFiles, qemuArguments, SPARE_ROOT_PORTS } from '../../../src/hypervisor/qemu-arguments.js';
import { describeQemu } from '../../../src/hypervisor/qemu-program.js';
import { vmConfiguration } from '../../support/vm-configuration.js';

const program = describeQemu('/usr/bin/qemu-system-x86_64', 'QEMU emulator version 10.0.2 (Debian 1:10.0.2)');
const files: MachineFiles = {
  monitor: 3,
  console: 4,
  kvm: null,
  firmware: null,
  devices: [],
  directBoot: null,
  diskSocket: (index: number) => `q,1/d${index}.sock`,
};
const tcg: Accelerator = { kind: 'tcg', cpu: 'max' };
const disk = (path: string, controllerLocation: number, passThrough = false): HardDisk => ({
  id: `d${controllerLocation}`,
  controllerType: 'SCSI',
  controllerNumber: 0,
  controllerLocation,
  path,
  format: passThrough ? 'raw' : 'vhdx',
  passThrough,
});
const machine = (change: Partial<VmConfiguration> = {}): VmConfiguration =>
  vmConfiguration('/vms', { generation: 1, processorCount: 2, ...change });
const has = (args: string[], option: string): string[] => args.flatMap((arg, at) => (arg === option ? [args[at + 1]!] : []));

describe('the command line of a machine', () => {
  it('shares its memory, connects each disk to its worker again by itself, and lets the guest execute only when told', () => {
    const args = qemuArguments(machine({ disks: [disk('/a.vhdx', 0), disk('/b.vhdx', 1)] }), files, program, tcg);
    expect(has(args, '-object')).toEqual(['memory-backend-memfd,id=mem,size=512M,share=on']);
    expect(has(args, '-machine')).toEqual(['q35,memory-backend=mem']);
    expect(has(args, '-chardev').filter((one) => one.startsWith('socket,id=vu'))).toEqual([
      'socket,id=vu0,path=q,,1/d0.sock,reconnect-ms=100',
      'socket,id=vu1,path=q,,1/d1.sock,reconnect-ms=100',
    ]);
    expect(has(args, '-device')).toContain('vhost-user-blk-pci,chardev=vu1,config-wce=off,id=disk1,bus=rp1,bootindex=2,num-queues=2');
    expect(args).toContain('-S');
    expect(args.join(' ')).not.toContain('/a.vhdx');
    expect(has(args, '-device').filter((one) => one.startsWith('pcie-root-port'))).toHaveLength(2 + SPARE_ROOT_PORTS);
  });

  it('asks for a queue per processor, of each disk, and for at most as many as a worker offers', () => {
    const queues = (processorCount: number): string[] =>
      has(
        qemuArguments(machine({ processorCount, disks: [disk('/a.vhdx', 0), disk('/b.vhdx', 1)] }), files, program, tcg),
        '-device',
      ).flatMap((one) => /num-queues=\d+/.exec(one) ?? []);
    expect(queues(1)).toEqual(['num-queues=1', 'num-queues=1']);
    expect(queues(4)).toEqual(['num-queues=4', 'num-queues=4']);
    expect(queues(240)).toEqual(['num-queues=64', 'num-queues=64']);
  });

  it('puts 8 root ports into a slot, the first of them multifunction', () => {
    const disks = Array.from({ length: 10 }, (_, at) => disk(`/${at}.vhdx`, at));
    const ports = has(qemuArguments(machine({ disks }), files, program, tcg), '-device').filter((one) => one.startsWith('pcie-root-port'));
    expect(ports[7]).toBe('pcie-root-port,id=rp7,chassis=8,slot=8,bus=pcie.0,addr=2.7');
    expect(ports[8]).toBe('pcie-root-port,id=rp8,chassis=9,slot=9,bus=pcie.0,addr=3.0,multifunction=on');
  });

  it('has a pass-through disk from the descriptor it inherits, past the page cache', () => {
    const args = qemuArguments(machine({ disks: [disk('/dev/sdb', 0, true)] }), { ...files, devices: [5] }, program, tcg);
    expect(has(args, '-add-fd')).toEqual(['fd=4,set=4', 'fd=5,set=5,opaque=/dev/sdb']);
    expect(JSON.parse(has(args, '-blockdev')[0]!)).toMatchObject({
      driver: 'host_device',
      filename: '/dev/fdset/5',
      cache: { direct: true },
    });
    const disks = [disk('/dev/sdb', 0, true), disk('/a.vhdx', 1), disk('/dev/sdc', 2, true)];
    const two = qemuArguments(machine({ disks }), { ...files, devices: [5, 6] }, program, tcg);
    expect(has(two, '-add-fd').slice(1)).toEqual(['fd=5,set=5,opaque=/dev/sdb', 'fd=6,set=6,opaque=/dev/sdc']);
    expect(has(args, '-device')).toContain('virtio-blk-pci,drive=node0,write-cache=on,id=disk0,bus=rp0,bootindex=1,num-queues=2');
  });

  it('has firmware with its own variables, or a kernel, or SeaBIOS', () => {
    const uefi = qemuArguments(machine({ generation: 2 }), { ...files, firmware: { code: 5, variables: 6 } }, program, tcg);
    expect(has(uefi, '-machine')).toEqual(['q35,memory-backend=mem,pflash0=firmware,pflash1=variables']);
    expect(has(uefi, '-blockdev').map((one) => JSON.parse(one) as object)).toEqual([
      { driver: 'file', 'node-name': 'firmware', filename: '/dev/fdset/5', 'read-only': true },
      { driver: 'file', 'node-name': 'variables', filename: '/dev/fdset/6' },
    ]);
    const directBoot = { kernel: 'kernel', initrd: null, arguments: '' };
    const direct = qemuArguments(machine({ directBoot }), { ...files, directBoot }, program, tcg);
    expect([has(direct, '-kernel'), has(direct, '-initrd'), direct.includes('-preconfig')]).toEqual([['kernel'], [], false]);
  });

  it("does not tell the kernel's arguments, which every user could read: it waits for them", () => {
    const directBoot = { kernel: 'kernel', initrd: 'initrd', arguments: 'quiet token=s3cret' };
    const args = qemuArguments(machine({ directBoot }), { ...files, directBoot }, program, tcg);
    expect(args).toContain('-preconfig');
    expect(args.join(' ')).not.toContain('s3cret');
  });

  it('inherits what it may have, opened, and opens nothing by a name but the sockets of its disks', () => {
    const kvm: Accelerator = { kind: 'kvm', cpu: 'host' };
    const args = qemuArguments(machine(), { ...files, kvm: 7 }, program, kvm);
    expect(has(args, '-accel')).toEqual(['kvm,device=/dev/fdset/7']);
    expect(has(args, '-add-fd')).toEqual(['fd=4,set=4', 'fd=7,set=7']);
    expect(has(args, '-chardev')).toEqual([
      'socket,id=monitor,fd=3,server=on,wait=off',
      'file,id=console,path=/dev/fdset/4,append=on',
      'file,id=serial,path=/dev/fdset/4,append=on',
    ]);
    expect(args.join(' ').match(/=\/(?!dev\/fdset\/)/g)).toBeNull();
  });

  it('is confined by its own seccomp, where it was built with that', () => {
    expect(has(qemuArguments(machine(), files, program, tcg), '-sandbox')).toEqual([
      'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny',
    ]);
    expect(has(qemuArguments(machine(), files, { ...program, sandbox: false }, tcg), '-sandbox')).toEqual([]);
  });

  it('cannot be changed by a name: commas are doubled', () => {
    expect(has(qemuArguments(machine({ name: 'a,debug-threads=off' }), files, program, tcg), '-name')).toEqual([
      'guest=a,,debug-threads=off,debug-threads=on',
    ]);
  });
});

describe('the QEMU that is found', () => {
  it('is asked to reconnect in the way its version knows', () => {
    expect(describeQemu('q', 'QEMU emulator version 9.2.0').reconnectOption).toBe('reconnect-ms=100');
    expect(describeQemu('q', 'QEMU emulator version 9.1.3').reconnectOption).toBe('reconnect=1');
    expect(describeQemu('q', 'QEMU emulator version 7.2.9 (Debian)').reconnectOption).toBe('reconnect=1');
  });
  it('is refused when it is too old or not QEMU', () => {
    expect(() => describeQemu('q', 'QEMU emulator version 4.2.1')).toThrow(/5\.0 or newer/);
    expect(() => describeQemu('q', 'something else')).toThrow(/does not name a version/);
  });
});

describe('the accelerator', () => {
  const measured = (times: Record<string, number | null>) => (one: Accelerator, limitMs: number) => {
    const ms = times[`${one.kind} ${one.cpu}`] ?? null;
    return Promise.resolve(ms !== null && ms <= limitMs ? ms : null);
  };
  it('is TCG without a KVM device, without measuring', async () => {
    expect((await chooseAccelerator('absent', () => Promise.reject(new Error('measured')))).accelerator.kind).toBe('tcg');
  });
  it('is KVM only when KVM finishes, and sooner', async () => {
    expect((await chooseAccelerator('usable', measured({ 'tcg max': 900, 'kvm host': 200 }))).accelerator).toEqual({
      kind: 'kvm',
      cpu: 'host',
    });
    expect((await chooseAccelerator('usable', measured({ 'tcg max': 900, 'kvm qemu64': 300 }))).accelerator).toEqual({
      kind: 'kvm',
      cpu: 'qemu64',
    });
    expect((await chooseAccelerator('usable', measured({ 'tcg max': 900, 'kvm host': 950, 'kvm qemu64': 24_000 }))).accelerator.kind).toBe(
      'tcg',
    );
    expect((await chooseAccelerator('usable', measured({ 'tcg max': 900 }))).accelerator.kind).toBe('tcg');
  });
  it('that is TCG beside a KVM device says why, and only then', async () => {
    const why = async (...how: Parameters<typeof chooseAccelerator>) => (await chooseAccelerator(...how)).whyNotKvm;
    expect(await why('absent', measured({}))).toBeNull();
    expect(await why('usable', measured({ 'tcg max': 900, 'kvm host': 200 }))).toBeNull();
    expect(await why({ refused: 'permission denied' }, measured({}))).toBe('this host may not use it: permission denied');
    expect(await why('usable', measured({ 'tcg max': 900 }))).toMatch(/did not end sooner with it than without: emulation needed 900 ms$/);
  });
  it('is not remembered when nothing could be measured', async () => {
    expect((await chooseAccelerator('usable', measured({}))).keep).toBe(false);
  });
});
