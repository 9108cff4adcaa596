/** Commands of the host that are no cmdlets: their names in `begin`, and their limits. No cmdlet has a space in its name. */
export const STOP_GUESTS = 'host stop-guests';
export const START_GUESTS = 'host start-guests';

/** How long guests are given to shut down, in seconds, as `limitSeconds`. The unit's TimeoutStopSec is above the default. */
export const STOP_LIMIT_SECONDS = { default: 120, most: 3600 } as const;
