/** One place: how full it is, on which device, and what that does now. */
import type { Place } from '../../protocol/subscription.js';
import { bytes, shown, t } from './text.js';

export function PlaceCard({ place, onUse }: { readonly place: Place; readonly onUse?: () => void }) {
  const [free, total] = [Number(place.bytesFree), Number(place.bytesTotal)];
  const used = total === 0 ? 0 : Math.min(100, Math.max(0, (100 * (total - free)) / total));
  return (
    <article class="card place" aria-label={place.path}>
      <h3>{shown(place.path)}</h3>
      <p class="quiet">
        {shown(place.device)} <span aria-hidden="true">·</span> {place.fileSystem}
        {place.isReadOnly && <strong> {t('placeReadOnly')}</strong>}
      </p>
      <div class="meter" aria-hidden="true">
        <div class={used > 90 ? 'full' : ''} style={{ width: `${used}%` }} />
      </div>
      <p>{t('placeFree', { free: bytes(free), total: bytes(total) })}</p>
      <p class="quiet">
        {place.trouble !== null
          ? t('placeTrouble', { reason: place.trouble })
          : place.busyPercent === null
            ? t('placeNoLoad')
            : t('placeBusy', {
                percent: place.busyPercent,
                read: bytes(place.bytesReadPerSecond ?? 0),
                written: bytes(place.bytesWrittenPerSecond ?? 0),
              })}
      </p>
      {onUse && (
        <button type="button" onClick={onUse} disabled={place.isReadOnly || place.trouble !== null}>
          {t('placeUse')}
        </button>
      )}
    </article>
  );
}
