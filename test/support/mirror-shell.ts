/**
 * The demo's cmdlets done by QEMU alone: qemu-img makes the disks, a guest runs on them, QEMU's own mirror job moves them. With it
 * the demo's story and its judgement are tested on a real guest and a real move that is not ours, also one that went wrong.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { copyFile, mkdir, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import type { CmdletOutput, CmdletParameters, CmdletShell, RunningCmdlet } from '../../scripts/demo/cmdlet-shell.js';
import { BareQemu } from './bare-qemu.js';

const run = promisify(execFile);
/** One look at QEMU's job costs 1 ms; it is asked as often as the guest could notice. */
const LOOK_EACH_MS = 20;

export class MirrorShell implements CmdletShell {
  readonly powershell = null;
  #qemu: BareQemu | null = null;
  #disks: string[] = [];
  #processors = 1;
  #options = '';
  #folder = '';
  #state: 'Off' | 'Running' = 'Off';
  #figures: CmdletOutput = {};

  /** `spoil` is called with the targets when the move has ended, before anybody looks. */
  constructor(
    private readonly home: string,
    private readonly spoil: (targets: readonly string[]) => Promise<void> = () => Promise.resolve(),
  ) {}

  speaksItself(): Promise<boolean> {
    return Promise.resolve(false);
  }

  async run(cmdlet: string, parameters: CmdletParameters): Promise<CmdletOutput[]> {
    switch (cmdlet) {
      case 'New-VHD':
        await run('qemu-img', [
          'create',
          '-q',
          '-f',
          formatOf(String(parameters.Path)),
          String(parameters.Path),
          String(parameters.SizeBytes),
        ]);
        return [];
      case 'New-VM':
        this.#disks = [String(parameters.VHDPath)];
        this.#folder = String(parameters.Path);
        this.#options = String(parameters.KernelArguments).replace(/^.*?(?=w\.)/, '');
        mkdirSync(join(this.#folder, 'Virtual Machines'));
        writeFileSync(join(this.#folder, 'Virtual Machines/1.vmcx'), '{}');
        return [];
      case 'Set-VM':
        this.#processors = Number(parameters.ProcessorCount);
        return [];
      case 'Add-VMHardDiskDrive':
        this.#disks.push(String(parameters.Path));
        return [];
      case 'Start-VM':
        await this.#start();
        return [];
      case 'Stop-VM':
        await this.#qemu?.pressPowerButton();
        await this.#qemu?.exited;
        this.#state = 'Off';
        await this.spoil(this.#disks);
        return [];
      case 'Get-VMStorageMove':
        return [this.#figures];
      case 'Get-VMHardDiskDrive':
        return this.#disks.map((path) => ({ Path: path }));
      case 'Get-VM':
        return [{ State: this.#state, Path: this.#folder }];
      case 'Remove-VM':
        await this[Symbol.asyncDispose]();
        return [];
      default:
        throw new Error(`${cmdlet} is not part of the demo`);
    }
  }

  async #start(): Promise<void> {
    const logs = join(this.home, 'logs/1');
    await mkdir(logs, { recursive: true });
    const extra = this.#disks.flatMap((path, i) => [
      ...[
        '-blockdev',
        `driver=file,node-name=file${i},filename=${path},cache.direct=on`,
        '-blockdev',
        `driver=${formatOf(path)},node-name=disk${i},file=file${i}`,
      ],
      ...['-device', `virtio-blk-pci,drive=disk${i},id=d${i}`],
    ]);
    const environment = { ...process.env, VMSTORAGE_HOME: this.home };
    this.#qemu = await BareQemu.start({
      folder: this.home,
      extra: ['-smp', String(this.#processors), ...extra],
      guestOptions: this.#options,
      consolePath: join(logs, 'console.log'),
      environment,
    });
    this.#state = 'Running';
  }

  start(_cmdlet: string, parameters: CmdletParameters): Promise<RunningCmdlet> {
    let running = true;
    const end = this.#move(String(parameters.DestinationStoragePath)).finally(() => (running = false));
    end.catch(() => undefined);
    return Promise.resolve({ isRunning: () => Promise.resolve(running), result: () => end });
  }

  async #move(target: string): Promise<void> {
    const qemu = this.#qemu!;
    this.#figures = { Phase: 'copy', PercentComplete: 0, BytesPerSecond: '0', SecondsRemaining: null, GuestP99Us: null, Outcome: null };
    await mkdir(join(target, 'Virtual Hard Disks'), { recursive: true });
    const targets: string[] = [];
    let copied = 0;
    for (const [i, path] of this.#disks.entries()) {
      const to = join(target, 'Virtual Hard Disks', basename(path));
      const { stdout } = await run('qemu-img', ['info', '--output=json', '-U', path]);
      const { 'virtual-size': size } = JSON.parse(stdout) as { 'virtual-size': number };
      copied += size;
      await run('qemu-img', ['create', '-q', '-f', formatOf(path), to, String(size)]);
      await qemu.qmp('blockdev-add', { driver: 'file', 'node-name': `tfile${i}`, filename: to, cache: { direct: true } });
      await qemu.qmp('blockdev-add', { driver: formatOf(path), 'node-name': `target${i}`, file: `tfile${i}` });
      await qemu.qmp('blockdev-mirror', {
        'job-id': `job${i}`,
        device: `disk${i}`,
        target: `target${i}`,
        sync: 'full',
        'copy-mode': 'write-blocking',
      });
      targets.push(to);
    }
    for (const i of this.#disks.keys()) {
      await this.#untilJob(`job${i}`, 'ready');
      await qemu.qmp('job-complete', { id: `job${i}` });
      await this.#untilJob(`job${i}`, 'gone');
      await qemu.qmp('blockdev-del', { 'node-name': `disk${i}` });
    }
    for (const path of this.#disks) await rm(path);
    mkdirSync(join(target, 'Virtual Machines'));
    renameSync(join(this.#folder, 'Virtual Machines/1.vmcx'), join(target, 'Virtual Machines/1.vmcx'));
    [this.#disks, this.#folder] = [targets, target];
    const figures = {
      BytesCopied: String(copied),
      BytesRecopied: '0',
      BytesMirrored: '0',
      BytesVerified: String(copied),
      BlackoutUs: '900',
    };
    this.#figures = {
      ...this.#figures,
      ...figures,
      Phase: 'done',
      PercentComplete: 100,
      Outcome: 'Completed',
      Receipt: JSON.stringify(targets.map((path, disk) => ({ disk, target: { path } }))),
    };
  }

  async #untilJob(id: string, wanted: 'ready' | 'gone'): Promise<void> {
    for (;;) {
      const jobs = (await this.#qemu!.qmp('query-jobs')) as {
        id: string;
        status: string;
        error?: string;
        'current-progress': number;
        'total-progress': number;
      }[];
      const job = jobs.find((candidate) => candidate.id === id);
      if (job?.error !== undefined) throw new Error(`${id}: ${job.error}`);
      if (job)
        this.#figures = {
          ...this.#figures,
          PercentComplete: Math.floor((100 * job['current-progress']) / Math.max(1, job['total-progress'])),
        };
      if (wanted === 'gone' ? !job : job?.status === 'ready') return;
      if (!job) throw new Error(`${id} ended before it was ready`);
      await new Promise((resolve) => setTimeout(resolve, LOOK_EACH_MS));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#qemu?.stop();
    this.#qemu = null;
  }
}

function formatOf(path: string): 'vhdx' | 'raw' {
  return path.endsWith('.vhdx') ? 'vhdx' : 'raw';
}

/** Puts the source files back beside the moved ones: a move that forgot to delete. */
export async function putBack(targets: readonly string[], folder: string): Promise<void> {
  for (const path of targets) if ((await stat(path)).isFile()) await copyFile(path, join(folder, basename(path)));
}
