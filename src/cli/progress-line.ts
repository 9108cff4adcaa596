/** Progress for people, on stderr: one line that is rewritten on a terminal, plain lines, not too many, elsewhere. */
import { visibleLine } from '../model/visible.js';
import type { WireProgress } from '../protocol/messages.js';

/** Off a terminal a line is written at most this often; a finished activity always. */
const plainIntervalMs = 1000;

export interface ProgressOutput {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

/** A cut may go through a character of two units. */
const withoutHalves = (text: string): string => text.replace(/\p{Cs}/gu, '');

export class ProgressLine {
  #shown = false;
  #lastText = '';
  #lastAtMs = -Infinity;

  constructor(
    private readonly out: ProgressOutput,
    private readonly nowMs: () => number = () => performance.now(),
  ) {}

  show(progress: WireProgress): void {
    const percent = progress.percent >= 0 ? `${Math.floor(progress.percent)} % ` : '';
    const activity = visibleLine(progress.activity);
    const figures = `: ${percent}${visibleLine(progress.status)}`.trimEnd();
    const text = `${activity}${figures}`;
    if (this.out.isTTY) {
      if (progress.done) return this.clear();
      const room = (this.out.columns || 80) - 1; // 0: a serial console that does not tell
      // What changes is what is watched: the activity makes room for the figures, and its end has the machine's name.
      const kept = Math.max(0, room - figures.length - 1);
      const shown = text.length <= room ? text : `…${activity.slice(activity.length - kept)}${figures}`;
      this.out.write(`\r\u001b[K${withoutHalves(shown.slice(0, room))}`);
      this.#shown = true;
      return;
    }
    if (text === this.#lastText || (!progress.done && this.nowMs() - this.#lastAtMs < plainIntervalMs)) return;
    this.#lastText = text;
    this.#lastAtMs = this.nowMs();
    this.out.write(`${text}\n`);
  }

  /** Before anything else is written to the terminal. */
  clear(): void {
    if (this.#shown) this.out.write('\r\u001b[K');
    this.#shown = false;
  }
}
