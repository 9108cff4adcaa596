/** The phases in their order, as the host names them (src/model/move.ts; a test compares). */
export const movePhases: readonly string[] = [
  ...['queued', 'plan', 'check', 'prepare', 'copy', 'mirror', 'verify', 'synchronized', 'switch', 'release', 'cleanUp', 'done'],
];
