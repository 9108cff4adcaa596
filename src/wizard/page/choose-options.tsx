/** Choose Options for Moving Storage. */
import type { MoveOption } from '../steps/rows.js';
import type { PageProperties } from './wizard-view.js';
import { Option } from './option.js';
import { placesByPath } from './store.js';
import { t } from './text.js';

const options = { single: 'optionSingle', different: 'optionDifferent', disksOnly: 'optionDisksOnly' } as const;
const switches = { retainSources: 'keepSources', requireFullSize: 'fullSize' } as const;

export function ChooseOptions({ state, send }: PageProperties) {
  return (
    <>
      <fieldset class="options">
        <legend>{t('optionsQuestion')}</legend>
        {(Object.keys(options) as MoveOption[]).map((option) => (
          <Option
            key={option}
            kind="radio"
            name="option"
            text={t(options[option])}
            why={t(`${options[option]}Why`)}
            isChecked={state.option === option}
            onChange={() => send({ do: 'option', option, places: placesByPath.value })}
          />
        ))}
      </fieldset>
      <div class="options">
        {(Object.keys(switches) as (keyof typeof switches)[]).map((name) => (
          <Option
            key={name}
            kind="checkbox"
            text={t(switches[name])}
            why={t(`${switches[name]}Why`)}
            isChecked={state[name]}
            onChange={(on) => send({ do: name, on })}
          />
        ))}
      </div>
    </>
  );
}
