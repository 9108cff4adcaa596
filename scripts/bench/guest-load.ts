/** The load: the addon's built-in guest, the same client for our export and for the peer's. It checks every block it reads. */
import { native, type NativeGuest } from '../../src/native/binding.js';

const LOOK_EACH_MS = 5;
const CONNECT_LIMIT_MS = 30_000;

export interface Load {
  /** 1 where nothing is said. */
  readonly queues?: number;
  /** Requests in flight, over all queues. */
  readonly queueDepth: number;
  readonly writePercent: number;
  /** Requests per second; null: as many as it can. */
  readonly rate: number | null;
  /** A flush after so many writes; 0: none. */
  readonly flushEvery: number;
  readonly spanBytes: number;
}

/** Waits since the last look, and how many requests there were. */
export interface Waits {
  readonly count: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly longestUs: number;
}

interface DiskCounters {
  readonly connected: boolean;
  readonly ioErrors: number;
  readonly wrongBlocks: number;
  readonly unexpectedCompletions: number;
  readonly firstWrong: string | null;
  readonly lastConnectError: string | null;
}

export class GuestLoad {
  private constructor(private readonly guest: NativeGuest) {}

  /** Starts one; resolves when it is connected and at work. */
  static async start(socket: string, load: Load): Promise<GuestLoad> {
    const options = {
      ...{
        sockets: [socket],
        seed: 1,
        queues: load.queues ?? 1,
        queueDepth: load.queueDepth,
        spanBytes: load.spanBytes,
        flushEvery: load.flushEvery,
      },
      ...{ writePercent: load.writePercent, zeroPercent: 0, longestBlocks: 1, hotPercent: 0, verifyAtEnd: false },
      // 4 KiB requests laid out as Linux lays them out, on a disk that is full of what somebody else wrote.
      ...{ plainChains: true, unknownContent: true },
      ...(load.rate === null ? {} : { rate: load.rate }),
    };
    const guest = new GuestLoad(native().NativeGuest.start(JSON.stringify(options)));
    const limit = performance.now() + CONNECT_LIMIT_MS;
    while (!guest.#disk().connected) {
      if (performance.now() > limit) throw new Error(`The guest cannot connect to ${socket}: ${guest.#disk().lastConnectError}`);
      await new Promise((resolve) => setTimeout(resolve, LOOK_EACH_MS));
    }
    return guest;
  }

  takeWaits(): Waits {
    return JSON.parse(this.guest.takeWindow()) as Waits;
  }

  /** Ends the load; rejects if the guest saw an error or a block that was not right. */
  async stop(): Promise<void> {
    const report = JSON.parse(await this.guest.stop()) as { stuck: number; disks: DiskCounters[] };
    const wrong = report.disks.find((disk) => disk.ioErrors + disk.wrongBlocks + disk.unexpectedCompletions > 0);
    if (wrong || report.stuck > 0)
      throw new Error(`The guest was not served right: ${wrong?.firstWrong ?? `${report.stuck} requests were never answered`}`);
  }

  #disk(): DiskCounters {
    return (JSON.parse(this.guest.stats()) as DiskCounters[])[0]!;
  }
}
