/** Durations as they travel. */

/** .NET's "c": [d.]hh:mm:ss[.fffffff] */
export function timeSpan(ms: number): string {
  const two = (value: number): string => String(Math.floor(value)).padStart(2, '0');
  const days = Math.floor(ms / 86_400_000);
  const fraction = Math.floor(ms % 1000);
  return `${days > 0 ? `${days}.` : ''}${two((ms / 3_600_000) % 24)}:${two((ms / 60_000) % 60)}:${two((ms / 1000) % 60)}${fraction > 0 ? `.${String(fraction).padStart(3, '0')}0000` : ''}`;
}
