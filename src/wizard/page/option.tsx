/** A choice with the sentence that says what it means. The sentence describes the choice and is no part of its name. */
import { useId } from 'preact/hooks';

export interface OptionProperties {
  readonly kind: 'radio' | 'checkbox';
  readonly name?: string;
  readonly text: string;
  readonly why: string;
  readonly isChecked: boolean;
  readonly isDisabled?: boolean;
  readonly onChange?: (isChecked: boolean) => void;
}

export function Option({ kind, name, text, why, isChecked, isDisabled = false, onChange }: OptionProperties) {
  const id = useId();
  return (
    <div class={isDisabled ? 'option unavailable' : 'option'}>
      <input
        id={id}
        type={kind}
        {...(name === undefined ? {} : { name })}
        checked={isChecked}
        disabled={isDisabled}
        aria-describedby={`${id}-why`}
        onChange={(event) => onChange?.(event.currentTarget.checked)}
      />
      <label for={id}>{text}</label>
      <small id={`${id}-why`}>{why}</small>
    </div>
  );
}
