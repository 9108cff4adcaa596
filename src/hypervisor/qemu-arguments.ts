/**
 * The command line of a machine. Pure: what it says depends only on what is passed in. Every user of this system can read it (/proc), so the
 * kernel's arguments are not in it: they are set at the monitor before the machine is made (`-preconfig`; qemu.ts).
 *
 * ```text
 * q35 ── pcie.0 ── 1f: chipset   01: virtio-serial (console)   02..: root ports, 8 per slot ── rp0: disk 0 │ rp1: disk 1 │ ... │ rpN: free
 * disk: vhost-user-blk-pci ⇄ d<i>.sock ⇄ worker           pass-through disk: virtio-blk-pci ⇄ host_device ⇄ inherited descriptor
 * ```
 * A root port is there for each disk and a few more, since a port cannot be plugged in while the guest runs but a disk behind one can.
 */
import { diskQueues, type DirectBoot, type HardDisk, type VmConfiguration } from '../model/vm.js';
import type { Accelerator } from './accelerator.js';
import { SANDBOX } from './confinement.js';
import type { InheritedFirmware } from './firmware.js';
import type { QemuProgram } from './qemu-program.js';

/** Free root ports kept for disks added later. */
export const SPARE_ROOT_PORTS = 4;
const PORTS_PER_SLOT = 8;
const FIRST_PORT_SLOT = 2;

/** What QEMU uses of this system. Numbers are descriptors it inherits; paths are seen from the folder it works in. */
export interface MachineFiles {
  /** A listening socket. */
  readonly monitor: number;
  /** Opened with O_APPEND, so it may be cut while it is written. */
  readonly console: number;
  readonly firmware: InheritedFirmware | null;
  /** /dev/kvm, or null: it is opened by its name. */
  readonly kvm: number | null;
  /** One per pass-through disk, in the disks' order. */
  readonly devices: readonly number[];
  readonly directBoot: DirectBoot | null;
  diskSocket(index: number): string;
}

export function qemuArguments(vm: VmConfiguration, files: MachineFiles, program: QemuProgram, accelerator: Accelerator): string[] {
  const { firmware, directBoot } = files;
  const memoryMiB = Math.ceil(vm.memoryStartupBytes / 2 ** 20);
  const machine = ['q35', 'memory-backend=mem', ...(firmware ? ['pflash0=firmware', 'pflash1=variables'] : [])].join(',');
  return [
    '-name',
    `guest=${escape(vm.name)},debug-threads=on`,
    '-uuid',
    vm.id,
    '-nodefaults',
    '-no-user-config',
    '-display',
    'none',
    '-machine',
    machine,
    '-accel',
    accelerator.kind === 'tcg' ? 'tcg,thread=multi' : files.kvm === null ? 'kvm' : `kvm,device=${setOf(files.kvm)}`,
    '-cpu',
    accelerator.cpu,
    '-smp',
    String(vm.processorCount),
    // Shared memory is what a vhost-user back end maps; memfd needs no file system.
    '-object',
    `memory-backend-memfd,id=mem,size=${memoryMiB}M,share=on`,
    '-m',
    `${memoryMiB}M`,
    ...(program.sandbox ? ['-sandbox', SANDBOX] : []),
    ...inherited(files),
    '-chardev',
    `socket,id=monitor,fd=${files.monitor},server=on,wait=off`,
    '-mon',
    'chardev=monitor,mode=control',
    '-S', // the guest executes only after the peers of its disks were checked
    ...(hasSecretArguments(directBoot) ? ['-preconfig'] : []),
    ...(firmware
      ? [
          '-blockdev',
          json({ driver: 'file', 'node-name': 'firmware', filename: setOf(firmware.code), 'read-only': true }),
          '-blockdev',
          json({ driver: 'file', 'node-name': 'variables', filename: setOf(firmware.variables) }),
        ]
      : []),
    ...consoles(files.console),
    ...rootPorts(vm.disks.length + SPARE_ROOT_PORTS),
    ...vm.disks.flatMap((disk, index) => diskArguments(vm, disk, index, files, program)),
    ...(directBoot ? ['-kernel', directBoot.kernel, ...(directBoot.initrd === null ? [] : ['-initrd', directBoot.initrd])] : []),
  ];
}

/** Whether there are arguments for the kernel, which the machine is then given before it is made. */
export const hasSecretArguments = (directBoot: DirectBoot | null): boolean => (directBoot?.arguments ?? '') !== '';

/** QEMU takes a descriptor in the place of a file only from a set: each has one of its own, by its number. */
function inherited({ console, firmware, kvm }: MachineFiles): string[] {
  return [console, ...(firmware ? [firmware.code, firmware.variables] : []), ...(kvm === null ? [] : [kvm])].flatMap((descriptor) => [
    '-add-fd',
    `fd=${descriptor},set=${descriptor}`,
  ]);
}

const setOf = (descriptor: number): string => `/dev/fdset/${descriptor}`;

/** hvc0 and ttyS0, both appended to one log. */
function consoles(log: number): string[] {
  return [
    '-chardev',
    `file,id=console,path=${setOf(log)},append=on`,
    '-device',
    'virtio-serial-pci,id=consoles,bus=pcie.0,addr=1',
    '-device',
    'virtconsole,chardev=console',
    '-chardev',
    `file,id=serial,path=${setOf(log)},append=on`,
    '-serial',
    'chardev:serial',
  ];
}

function rootPorts(count: number): string[] {
  return Array.from({ length: count }, (_, port) => {
    const slot = (FIRST_PORT_SLOT + Math.floor(port / PORTS_PER_SLOT)).toString(16);
    const place = `bus=pcie.0,addr=${slot}.${port % PORTS_PER_SLOT}${port % PORTS_PER_SLOT === 0 ? ',multifunction=on' : ''}`;
    return ['-device', `pcie-root-port,id=rp${port},chassis=${port + 1},slot=${port + 1},${place}`];
  }).flat();
}

function diskArguments(vm: VmConfiguration, disk: HardDisk, index: number, files: MachineFiles, program: QemuProgram): string[] {
  const common = `id=disk${index},bus=rp${index},bootindex=${index + 1},num-queues=${diskQueues(vm)}`;
  if (disk.passThrough) {
    const descriptor = files.devices[vm.disks.slice(0, index).filter((one) => one.passThrough).length]!;
    return [
      // Opened exclusively by the host: see claimed-devices.ts. `opaque` is for whoever reads the command line or asks the monitor.
      '-add-fd',
      `fd=${descriptor},set=${descriptor},opaque=${escape(disk.path)}`,
      '-blockdev',
      json({
        driver: 'host_device',
        'node-name': `node${index}`,
        filename: setOf(descriptor),
        cache: { direct: true, 'no-flush': false },
        aio: 'threads',
      }),
      '-device',
      `virtio-blk-pci,drive=node${index},write-cache=on,${common}`,
    ];
  }
  return [
    // The worker may be restarted under the running guest: QEMU connects again by itself and the guest only waits.
    '-chardev',
    `socket,id=vu${index},path=${escape(files.diskSocket(index))},${program.reconnectOption}`,
    // config-wce=off: the write cache mode is ours to tell, so the guest always reads "write back" and its flushes reach us.
    '-device',
    `vhost-user-blk-pci,chardev=vu${index},config-wce=off,${common}`,
  ];
}

/** In QEMU's option strings a comma in a value is doubled. */
const escape = (value: string): string => value.replaceAll(',', ',,');
const json = (value: object): string => JSON.stringify(value);
