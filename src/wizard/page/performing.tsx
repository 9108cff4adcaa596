/** Performing the move: one section for each, from its place in line to where everything is at the end. Leaving it changes nothing. */
import { useSignal } from '@preact/signals';
import { movePhases } from './phases.js';
import { stopMove } from './gateway-client.js';
import { Heading } from './heading.js';
import { LatencyPlot } from './latency-plot.js';
import { MoveFigures } from './move-figures.js';
import { NowAt } from './now-at.js';
import { Receipt } from './receipt.js';
import { visibleLine } from '../../model/visible.js';
import { moves, route, type Move, type ShownMove } from './store.js';
import { t, type Key } from './text.js';

export function Performing({ shown }: { readonly shown: readonly ShownMove[] | null }) {
  return (
    <>
      <Heading text={t('performing')} />
      <p>{t('performingText')}</p>
      {shown === null ? <p role="status">{t('beginning')}</p> : shown.map((one) => <OneMove key={one.moveId ?? one.vmName} shown={one} />)}
      <button type="button" onClick={() => (route.value = { at: 'home' })}>
        {t('home')}
      </button>
    </>
  );
}

function OneMove({ shown }: { readonly shown: ShownMove }) {
  const move = shown.moveId === null ? null : (moves.value.get(shown.moveId) ?? null);
  const failure = shown.begun?.failure ?? null;
  return (
    <section class="card move" aria-label={shown.vmName}>
      <h2>{visibleLine(move?.VMName ?? shown.vmName)}</h2>
      {shown.begun?.warnings.map((text) => (
        <p key={text} class="notice warning">
          {t('planWarning', { text })}
        </p>
      ))}
      {failure && (
        <p class="notice error" role="alert">
          {t('notBegun', { reason: failure.message })} {failure.recommendedAction}
        </p>
      )}
      {shown.moveId === null && !failure && <p>{t('planNothing')}</p>}
      {shown.moveId !== null && move === null && <p>{t('moveGone')}</p>}
      {move && (move.EndTime === null ? <Running move={move} /> : <Ended move={move} shown={shown} />)}
    </section>
  );
}

function Running({ move }: { readonly move: Move }) {
  return (
    <>
      <p role="status">
        {t(`phase_${move.Phase}` as Key)}
        {move.Message !== null && ` - ${move.Message}`}
      </p>
      <div class="progress">
        <progress max={100} value={move.PercentComplete} aria-label={t('progressOf', { name: move.VMName })} />
        <span>{move.PercentComplete} %</span>
        <Stop move={move} />
      </div>
      <Phases now={move.Phase} />
      <MoveFigures move={move} />
      <LatencyPlot move={move} />
    </>
  );
}

/** Of the phases from here on nothing is undone any more. */
const COMMITTED: readonly string[] = ['release', 'cleanUp', 'done'];

function Stop({ move }: { readonly move: Move }) {
  const said = useSignal<string | null>(null);
  const isStopping = move.Outcome === 'Stopping';
  const isTooLate = COMMITTED.includes(move.Phase);
  const stop = (): void => {
    said.value = t('stopping');
    stopMove(move.MoveId).then(
      (warnings) => (said.value = warnings.join(' ') || null),
      (error: unknown) => (said.value = error instanceof Error ? error.message : String(error)),
    );
  };
  return (
    <>
      <button
        type="button"
        class="danger"
        disabled={isStopping || isTooLate}
        aria-describedby="stop-why"
        aria-label={t('stopOf', { name: move.VMName })}
        onClick={stop}
      >
        {t('stop')}
      </button>
      <small id="stop-why" role="status">
        {said.value ?? (isStopping ? t('stopping') : isTooLate ? t('stopTooLate') : t('stopWhy'))}
      </small>
    </>
  );
}

function Phases({ now }: { readonly now: string }) {
  const at = movePhases.indexOf(now);
  return (
    <ol class="phases" aria-label={t('phases')}>
      {movePhases.map((phase, index) => {
        const state = index < at ? 'phaseBefore' : index === at ? 'phaseNow' : 'phaseAfter';
        return (
          <li key={phase} class={state} aria-current={index === at ? 'step' : undefined}>
            {t(`phase_${phase}` as Key)} <span class="hidden">({t(state)})</span>
          </li>
        );
      })}
    </ol>
  );
}

function Ended({ move, shown }: { readonly move: Move; readonly shown: ShownMove }) {
  const name = move.VMName;
  const [text, look] =
    move.Outcome === 'Completed'
      ? [t('moveCompleted', { name }), 'good']
      : move.Outcome === 'Stopped'
        ? [t('moveStopped', { name }), 'warning']
        : [t('moveFailed', { name, reason: move.Message ?? '' }), 'error'];
  return (
    <>
      <p class={`notice ${look}`} role="status">
        {text}
      </p>
      <NowAt move={move} before={shown.before} />
      <MoveFigures move={move} />
      <Receipt move={move} />
      <LatencyPlot move={move} />
    </>
  );
}
