/** A move's progress for people: one line that is rewritten on a terminal, a plain line now and then elsewhere. */

/** Off a terminal a line is printed at a new phase and then so often, unless it says the same. */
const PLAIN_EACH_MS = 2000;
const BAR_CELLS = 24;

export interface ProgressFigures {
  readonly phase: string;
  readonly percent: number;
  readonly bytesPerSecond: number | null;
  readonly secondsRemaining: number | null;
  readonly guestP99Us: number | null;
}

export class ProgressLine {
  #phase = '';
  #plain = '';
  #plainAt = 0;
  #drawn = false;

  constructor(private readonly out: NodeJS.WriteStream) {}

  show(figures: ProgressFigures): void {
    const text = renderProgress(figures);
    if (this.out.isTTY) {
      this.out.write(`\r\u001b[K${text}`);
      this.#drawn = true;
    } else if (text !== this.#plain && (figures.phase !== this.#phase || Date.now() >= this.#plainAt)) {
      this.out.write(`${text}\n`);
      this.#plain = text;
      this.#plainAt = Date.now() + PLAIN_EACH_MS;
    }
    this.#phase = figures.phase;
  }

  /** Leaves the last state standing. */
  end(): void {
    if (this.#drawn) this.out.write('\n');
    this.#drawn = false;
  }
}

export function renderProgress({ phase, percent, bytesPerSecond, secondsRemaining, guestP99Us }: ProgressFigures): string {
  const filled = Math.round((Math.min(100, Math.max(0, percent)) / 100) * BAR_CELLS);
  return [
    `  [${'#'.repeat(filled)}${'.'.repeat(BAR_CELLS - filled)}]`,
    `${String(Math.floor(percent)).padStart(3)} %`,
    phase.padEnd(12),
    bytesPerSecond === null ? '' : `${(bytesPerSecond / 1e6).toFixed(0).padStart(5)} MB/s`,
    secondsRemaining === null ? '' : `${secondsRemaining} s left`,
    guestP99Us === null ? '' : `guest p99 ${(guestP99Us / 1000).toFixed(1)} ms`,
  ]
    .filter((part) => part !== '')
    .join('  ');
}
