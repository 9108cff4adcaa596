/** Get-VMStorageMove -Watch: each of the chosen moves as it is, then again whenever it changes, until none of them goes on. */
import { ChangedKeys } from '../jobs/changed-keys.js';
import type { StorageMoves } from './moves.js';
import type { CmdletContext, MigrationPorts, WireObject } from './ports.js';
import { shownMove } from './shown-moves.js';

export async function watchMoves(
  context: CmdletContext,
  chosen: readonly WireObject[],
  moves: StorageMoves,
  ports: MigrationPorts,
): Promise<void> {
  const changed = new ChangedKeys();
  const goOn = new Set<string>();
  const tell = async (moveId: string): Promise<void> => {
    const move = shownMove(moveId, moves, ports);
    if (move === null || move['EndTime'] !== null) goOn.delete(moveId);
    else goOn.add(moveId);
    if (move) await context.output(move);
  };
  const ids = chosen.map((move) => String(move['MoveId']));
  const unsubscribe = moves.subscribe((moveId) => ids.includes(moveId) && changed.note(moveId));
  const over = AbortSignal.any([context.signal, context.stopRequested]);
  try {
    for (const moveId of ids) await tell(moveId);
    while (goOn.size > 0) {
      const next = await changed.next(over);
      if (next === null) return;
      for (const moveId of next === 'everything' ? [...goOn] : [next.key]) if (goOn.has(moveId)) await tell(moveId);
    }
  } finally {
    unsubscribe();
  }
}
