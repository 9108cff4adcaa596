/** Switches that several cmdlets have. */
import { parameter, t, type Placements } from '../define.js';

export const asJob = parameter(t.switch, { help: 'Runs as a background job and returns the job.' });
export const passthru = parameter(t.switch, { help: 'Returns the object that was changed.' });
export const force = parameter(t.switch, { help: 'Does it without asking.' });
export const allowForeignContent = (sets: Placements) =>
  parameter(t.switch, {
    help:
      'Attaches a raw disk although its content is an image of another format or an archive. An extension: Hyper-V does not have it. ' +
      'A virtual machine that has the disk already is started whatever its guest has written into it.',
    sets,
    extension: true,
  });
export const allowUnverifiedPaths = parameter(t.switch, {
  help: 'Accepts paths whose existence cannot be verified on a cluster; on this host there is nothing more to verify.',
  inForce: [true],
});
