/** What one comparison consists of. Every run makes what it measures, measures, and takes it away again. */
import type { Children } from '../children.js';
import type { Figures, RowPlan } from '../document.js';
import type { Settings } from '../machine.js';

export interface Bench extends Settings {
  /** Everything lies in here. */
  readonly folder: string;
  readonly children: Children;
  /** A raw disk, full; made once, read and written by both sides in turn. */
  readonly rawImage: string;
  /** The same content in a dynamic VHDX. */
  readonly vhdxImage: string;
}

export interface Case {
  readonly rows: readonly RowPlan[];
  /** By name; in each round all of them, in an order drawn anew. */
  readonly runs: Readonly<Record<string, (bench: Bench) => Promise<Figures>>>;
}
