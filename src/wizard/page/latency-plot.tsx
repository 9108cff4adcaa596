/** The guest's p99 while this page watches, against its longest wait before the move; the same as a table for who does not see a drawing. */
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { sampled, samplesOf, type Move, type Sample } from './store.js';
import { isDark, language, locale, milliseconds, t } from './text.js';

const HEIGHT_PX = 180;
/** About two seconds: sooner nothing is said of a guest that asks for nothing. */
const SAMPLES_LEAST = 8;
/** Rows of the table: evenly out of all samples. */
const TABLE_ROWS = 20;

export function LatencyPlot({ move }: { readonly move: Move }) {
  sampled.value; // draws anew when there are more
  const samples = samplesOf(move.MoveId);
  if (samples.filter(({ p99Us }) => p99Us !== null).length < 2) {
    // A page that came when all was over has watched nothing, and says nothing of the guest.
    const key = move.EndTime === null && samples.length < SAMPLES_LEAST ? 'plotSoon' : samples.length >= SAMPLES_LEAST ? 'plotNone' : null;
    return key && <p class="quiet">{t(key)}</p>;
  }
  return (
    <figure class="plot">
      <figcaption>{t('plot')}</figcaption>
      <Drawing samples={samples} restUs={move.GuestRestMaxUs === null ? null : Number(move.GuestRestMaxUs)} />
      <details>
        <summary>{t('plotTable')}</summary>
        <table>
          <thead>
            <tr>
              <th scope="col">{t('plotTime')}</th>
              <th scope="col">{t('plotP99')}</th>
            </tr>
          </thead>
          <tbody>
            {thinned(samples).map(({ atMs, p99Us }) => (
              <tr key={atMs}>
                <td>{new Date(atMs).toLocaleTimeString(locale.value)}</td>
                <td>{p99Us === null ? t('guestIdle') : milliseconds(p99Us)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </details>
    </figure>
  );
}

function thinned(samples: readonly Sample[]): readonly Sample[] {
  const each = Math.max(1, Math.ceil(samples.length / TABLE_ROWS));
  return samples.filter((_, at) => at % each === 0);
}

function Drawing({ samples, restUs }: { readonly samples: readonly Sample[]; readonly restUs: number | null }) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const data = (): uPlot.AlignedData => [
    samples.map(({ atMs }) => (atMs - samples[0]!.atMs) / 1000),
    samples.map(({ p99Us }) => (p99Us === null ? null : p99Us / 1000)),
    samples.map(() => (restUs === null ? null : restUs / 1000)),
  ];
  useEffect(() => {
    const element = place.current!;
    const colour = (name: string): string => getComputedStyle(element).getPropertyValue(name);
    const axis = { stroke: colour('--quiet'), grid: { stroke: colour('--line'), width: 1 }, ticks: { show: false } };
    const made = new uPlot(
      {
        width: element.clientWidth,
        height: HEIGHT_PX,
        cursor: { show: false },
        scales: { x: { time: false }, y: { range: (_, _least, most) => [0, Math.max(1, most * 1.1)] } },
        axes: [
          { ...axis, values: (_, ticks) => ticks.map((tick) => `${tick} s`) },
          { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => `${tick} ms`) },
        ],
        series: [
          { label: t('plotTime') },
          { label: t('plotP99'), stroke: colour('--accent'), width: 2 },
          { label: t('plotRest'), stroke: colour('--quiet'), width: 1, dash: [4, 4] },
        ],
        legend: { live: false },
      },
      data(),
      element,
    );
    plot.current = made;
    const resized = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT_PX }));
    resized.observe(element);
    return () => {
      resized.disconnect();
      made.destroy();
    };
  }, [isDark.value, language.value]);
  useEffect(() => plot.current?.setData(data()));
  return <div ref={place} class="drawing" aria-hidden="true" />;
}
