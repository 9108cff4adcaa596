/** The document for people. */
import type { BenchDocument, Row } from './document.js';
import type { Spread } from './statistics.js';

const number = (value: number): string =>
  value >= 1000 ? Math.round(value).toLocaleString('en') : value >= 100 ? value.toFixed(0) : value.toPrecision(3);
const withSpread = ({ min, median, max }: Spread): string => `${number(median)} (${number(min)}..${number(max)})`;

function standing({ ratio, better }: Row): string {
  const good = better === 'higher' ? ratio >= 1 : ratio <= 1;
  return good ? 'ahead' : 'behind';
}

export function renderTable({ machine, rows }: BenchDocument): string {
  const head = ['', 'unit', 'better', 'ours', 'peer', 'ours / peer', '', 'peer is'];
  const cells = rows.map((row) => [
    ...[row.name, row.unit, row.better, withSpread(row.ours), withSpread(row.peer)],
    ...[withSpread(row.ratioSpread), standing(row), row.peer.name],
  ]);
  const widths = head.map((_, column) => Math.max(...[head, ...cells].map((line) => line[column]!.length)));
  const line = (texts: readonly string[]): string =>
    texts
      .map((text, column) => text.padEnd(widths[column]!))
      .join('  ')
      .trimEnd();
  const where = `${machine.processor}, ${machine.processors} processors, ${machine.memoryGiB} GiB, ${machine.kernel}, ${machine.fileSystem}`;
  return [
    where,
    `Node ${machine.node}, QEMU ${machine.qemu}, our I/O by ${machine.io}; ${machine.sizeMiB} MiB, ${machine.rounds} rounds, load ${machine.load}`,
    'median (min..max); the ratio is the median of the pairs of one round each',
    '',
    line(head),
    ...cells.map(line),
    '',
  ].join('\n');
}
