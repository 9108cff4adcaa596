/** Remembers that it was rung; however often between two looks, it is one look. A slow listener gets the latest figures, not a queue of old ones. */
export class Bell {
  #was = false;
  #wake: (() => void) | null = null;

  ring(): void {
    this.#was = true;
    this.#wake?.();
  }

  async rung(): Promise<void> {
    if (!this.#was) await new Promise<void>((resolve) => (this.#wake = resolve));
    this.#wake = null;
    this.#was = false;
  }
}
