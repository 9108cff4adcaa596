/** Completing the Move Wizard: what the host says of the plan of each machine, and the lines that do the same. */
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import type { Planned } from '../contract/messages.js';
import { lineOf, type MoveOrder } from '../contract/order.js';
import type { ItemKind } from '../steps/rows.js';
import { ordersOf } from '../steps/wizard.js';
import { planOrders } from './gateway-client.js';
import { itemText } from './item-text.js';
import { bytes, seconds, shown, t } from './text.js';
import { allNames, plans, type PageProperties } from './wizard-view.js';

export function Summary({ state }: PageProperties) {
  const orders = ordersOf(state, allNames());
  const asked = JSON.stringify(orders);
  useEffect(() => {
    let isOver = false;
    plans.value = null;
    planOrders(JSON.parse(asked) as readonly MoveOrder[]).then(
      (found) => isOver || (plans.value = found),
      (error: unknown) => {
        const failure = { code: '', message: error instanceof Error ? error.message : String(error), recommendedAction: null };
        if (!isOver) plans.value = orders.map(() => ({ plan: null, failure }));
      },
    );
    return () => void (isOver = true);
  }, [asked]);
  return (
    <>
      <p>{t('summaryText')}</p>
      {orders.map((order, at) => (
        <article key={order.vmId} class="plan">
          <h2>{shown(order.vmName)}</h2>
          <Plan planned={plans.value?.[at] ?? null} />
        </article>
      ))}
      <CommandLines lines={orders.map(lineOf)} />
    </>
  );
}

function Plan({ planned }: { readonly planned: Planned | null }) {
  if (planned === null) return <p role="status">{t('checking')}</p>;
  const { plan, failure } = planned;
  if (plan === null) return <Refusal reason={failure?.message ?? ''} action={failure?.recommendedAction ?? null} />;
  return (
    <>
      {plan.Refusals.map(({ Message, RecommendedAction }) => (
        <Refusal key={Message} reason={Message} action={RecommendedAction} />
      ))}
      {plan.Warnings.map((text) => (
        <p key={text} class="notice warning">
          {t('planWarning', { text })}
        </p>
      ))}
      {plan.Items.length === 0 && plan.Refusals.length === 0 && <p>{t('planNothing')}</p>}
      <ul class="plain items">
        {plan.Items.map((item) => (
          <li key={item.Source + item.Kind}>
            <strong>{itemText({ kind: item.Kind as ItemKind, source: item.Source })}</strong>
            <span class="path">{shown(item.Source)}</span>
            <span class="path to">{shown(item.Destination)}</span>
            {item.BytesToCopy !== null && <small>{t('planCopies', { bytes: bytes(item.BytesToCopy) })}</small>}
            {item.SourceIsKept && <small>{t('sourceKept')}</small>}
          </li>
        ))}
      </ul>
      <ul class="plain quiet">
        {plan.Room.map((room) => (
          <li key={room.Path}>{t('planRoom', { needed: bytes(room.BytesNeeded), path: room.Path, free: bytes(room.BytesFree) })}</li>
        ))}
        {plan.Refusals.length === 0 && plan.BytesToCopy !== null && (
          <li>
            {plan.ForecastSeconds === null
              ? t('planNoForecast')
              : t('planForecast', { time: seconds(Number(plan.ForecastSeconds)), basis: plan.ForecastBasis ?? '' })}
          </li>
        )}
      </ul>
    </>
  );
}

function Refusal({ reason, action }: { readonly reason: string; readonly action: string | null }) {
  return (
    <p class="notice error" role="alert">
      {t('planRefused', { reason })} {action}
    </p>
  );
}

function CommandLines({ lines }: { readonly lines: readonly string[] }) {
  const copied = useSignal<'copied' | 'copyFailed' | null>(null);
  const text = lines.join('\n');
  const copy = (): void => {
    navigator.clipboard.writeText(text).then(
      () => (copied.value = 'copied'),
      () => (copied.value = 'copyFailed'),
    );
  };
  return (
    <section class="lines">
      <h2 id="lines">{t('commandLine')}</h2>
      <pre tabIndex={0} aria-labelledby="lines">
        {text}
      </pre>
      <button type="button" onClick={copy}>
        {t('copy')}
      </button>
      <span role="status">{copied.value && t(copied.value)}</span>
    </section>
  );
}
