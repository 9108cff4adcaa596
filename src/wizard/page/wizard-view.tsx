/** The Move Wizard: its list of steps, the page of the step it is at, and the buttons below. */
import { computed, signal } from '@preact/signals';
import type { Planned } from '../contract/messages.js';
import { obstacle, ordersOf, pages, step, type WizardEvent, type WizardState } from '../steps/wizard.js';
import { beginMoves } from './gateway-client.js';
import { Heading } from './heading.js';
import { ChooseLocations } from './choose-locations.js';
import { ChooseOptions } from './choose-options.js';
import { BeforeYouBegin, ChooseMoveType } from './first-pages.js';
import { chosen, machines, route, type Machine, type ShownMove } from './store.js';
import { itemText } from './item-text.js';
import { Summary } from './summary.js';
import { t } from './text.js';

/** What the host said of the orders on the summary; null while it is asked. */
export const plans = signal<readonly Planned[] | null>(null);
const passing = computed(() => plans.value?.filter(isAllowed).length ?? 0);

export const isAllowed = ({ plan }: Planned): boolean => plan !== null && plan.Refusals.length === 0 && plan.Items.length > 0;
export const allNames = (): readonly string[] => [...machines.value.values()].map(({ Name }) => Name);

export function Wizard({ state }: { readonly state: WizardState }) {
  const send = (event: WizardEvent): void => {
    route.value = { at: 'wizard', wizard: step(state, event) };
  };
  const [only] = state.machines;
  const title =
    state.machines.length === 1 ? t('titleWizard', { name: only!.Name }) : t('titleWizardSeveral', { count: state.machines.length });
  return (
    <div class="wizard">
      <p class="title">{title}</p>
      <nav aria-label={t('steps')}>
        <ol>
          {pages.map((page) => (
            <li key={page} aria-current={page === state.page ? 'step' : undefined}>
              {t(page)}
            </li>
          ))}
        </ol>
      </nav>
      <section class="card page">
        <Heading text={t(state.page)} />
        <Page state={state} send={send} />
        <Buttons state={state} send={send} />
      </section>
    </div>
  );
}

export interface PageProperties {
  readonly state: WizardState;
  readonly send: (event: WizardEvent) => void;
}

function Page(properties: PageProperties) {
  switch (properties.state.page) {
    case 'beforeYouBegin':
      return <BeforeYouBegin {...properties} />;
    case 'chooseMoveType':
      return <ChooseMoveType />;
    case 'chooseOptions':
      return <ChooseOptions {...properties} />;
    case 'chooseLocations':
      return <ChooseLocations {...properties} />;
    case 'summary':
    case 'performing':
      return <Summary {...properties} />;
  }
}

function Buttons({ state, send }: PageProperties) {
  const blocked = obstacle(state);
  const row = blocked?.key === null ? undefined : state.rows.find(({ key }) => key === blocked?.key);
  const isSummary = state.page === 'summary';
  const why = blocked ? t(blocked.reason, { item: row ? itemText(row) : '' }) : isSummary ? whyOfSummary(state) : null;
  const isStopped = blocked !== null || (isSummary && passing.value === 0);
  return (
    <footer class="buttons">
      <p id="why" role="status">
        {why}
      </p>
      <button type="button" onClick={() => (route.value = { at: 'home' })}>
        {t('cancel')}
      </button>
      <button type="button" disabled={state.page === 'beforeYouBegin'} onClick={() => send({ do: 'back' })}>
        {t('back')}
      </button>
      <button
        type="button"
        class="primary"
        disabled={isStopped}
        aria-describedby="why"
        onClick={() => (isSummary ? void finish(state) : send({ do: 'next' }))}
      >
        {isSummary ? t('finish') : t('next')}
      </button>
    </footer>
  );
}

function whyOfSummary(state: WizardState): string | null {
  const all = plans.value;
  if (all === null) return t('checking');
  if (passing.value === 0) return t('finishNone');
  return passing.value < all.length ? t('finishSome', { count: passing.value, all: ordersOf(state, allNames()).length }) : null;
}

async function finish(state: WizardState): Promise<void> {
  const orders = ordersOf(state, allNames()).filter((_, at) => isAllowed(plans.value![at]!));
  const before = new Map(state.machines.map((machine) => [machine.Id, (machines.value.get(machine.Id) ?? machine) as Machine]));
  route.value = { at: 'performing', moves: null };
  chosen.value = new Set();
  const shown = (at: number, begun: ShownMove['begun']): ShownMove => ({
    vmName: orders[at]!.vmName,
    moveId: begun?.moveId ?? null,
    begun,
    before: before.get(orders[at]!.vmId) ?? null,
  });
  try {
    const begun = await beginMoves(orders);
    route.value = { at: 'performing', moves: begun.map((one, at) => shown(at, one)) };
  } catch (error) {
    const failure = { code: '', message: error instanceof Error ? error.message : String(error), recommendedAction: null };
    route.value = { at: 'performing', moves: orders.map(({ vmId }, at) => shown(at, { vmId, moveId: null, failure, warnings: [] })) };
  }
}
