/** Before You Begin, and Choose Move Type. */
import type { PageProperties } from './wizard-view.js';
import { Option } from './option.js';
import { shown, t } from './text.js';

export function BeforeYouBegin({ state }: PageProperties) {
  return (
    <>
      <p>{t('beforeYouBeginText')}</p>
      <ul>
        {t('beforeYouBeginPoints')
          .split('|')
          .map((point) => (
            <li key={point}>{point}</li>
          ))}
      </ul>
      <h2>{t('toBeMoved')}</h2>
      <p class="names">{shown(state.machines.map(({ Name }) => Name).join(', '))}</p>
    </>
  );
}

export function ChooseMoveType() {
  return (
    <fieldset class="options">
      <legend>{t('moveTypeQuestion')}</legend>
      <Option kind="radio" name="type" isChecked={false} isDisabled text={t('moveTypeMachine')} why={t('moveTypeMachineWhy')} />
      <Option kind="radio" name="type" isChecked text={t('moveTypeStorage')} why={t('moveTypeStorageWhy')} />
    </fieldset>
  );
}
