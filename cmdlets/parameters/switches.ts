/** Switches that several cmdlets have. */
import { parameter, t } from '../define.js';

export const asJob = parameter(t.switch, { help: 'Runs as a background job and returns the job.' });
export const passthru = parameter(t.switch, { help: 'Returns the object that was changed.' });
export const force = parameter(t.switch, { help: 'Does it without asking.' });
export const allowUnverifiedPaths = parameter(t.switch, {
  help: 'Accepts paths whose existence cannot be verified on a cluster; on this host there is nothing more to verify.',
  inForce: [true],
});
