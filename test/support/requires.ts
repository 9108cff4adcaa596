/**
 * What a test needs and may not have. A missing peer is a skip with its reason on a laptop and an error with CI=true, because
 * there a skip would hide that nothing was tested.
 *
 *     describe.skipIf(!requires('pwsh', await findOrUndefined()))('...', ...)
 */
export class MissingPeer extends Error {}

const reported = new Set<string>();

/** True when `peer` is there. Otherwise says why the tests are skipped and is false; with CI=true it throws. */
export function requires(name: string, present: unknown, reason = `${name} is not installed`): boolean {
  if (present) return true;
  if (process.env['CI'] === 'true') throw new MissingPeer(`CI needs ${name}: ${reason}`);
  if (!reported.has(name)) console.warn(`skipped: ${reason}`);
  reported.add(name);
  return false;
}
