/** All comparisons, in the order of the table. */
import type { Case } from './case.js';
import { idleMoves } from './idle-moves.js';
import { laneCost } from './lane-cost.js';
import { loadedMove } from './loaded-move.js';
import { vhostUserIo } from './vhost-user-io.js';

export const cases: readonly Case[] = [...idleMoves, loadedMove, ...laneCost, ...vhostUserIo];
