/** Objects of a command that goes on (-Watch), each shown when it comes: rows of fixed widths under one header, or one JSON document per line. */
import type { Column } from '../../cmdlets/define.js';
import { visibleJson } from '../model/visible.js';
import type { WireObject } from '../protocol/messages.js';
import { cellText, typeOf } from './render.js';

export class StreamedRows {
  #shown: string | null = null;

  constructor(
    private readonly out: { write(text: string): unknown },
    private readonly json: boolean,
  ) {}

  show(object: WireObject): void {
    const type = typeOf(object);
    if (this.json || !type || !('table' in type.view)) {
      this.out.write(`${visibleJson(JSON.stringify(object))}\n`);
      return;
    }
    const columns = type.view.table;
    if (this.#shown !== object.$t) {
      this.#line(columns, (column) => column.label ?? column.property);
      this.#line(columns, (column) => '-'.repeat((column.label ?? column.property).length));
      this.#shown = object.$t;
    }
    this.#line(columns, (column) => cellText(object, column, type));
  }

  /** A text that is wider than its column pushes the others: what it says is worth more than the straight edge. */
  #line(columns: readonly Column[], textOf: (column: Column) => string): void {
    const cells = columns.map((column) => textOf(column).padEnd(column.width));
    this.out.write(`${cells.join(' ').trimEnd()}\n`);
  }
}
