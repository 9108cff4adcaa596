/**
 * Sets up everything from a bare clone: plain Node, nothing installed beforehand, any number of times.
 *
 *   Debian packages -> npm packages -> addon (cargo) -> TypeScript -> wizard's page (Vite) -> PowerShell module -> guest kernel -> guest initrd
 *
 * Each step first looks whether its work is still done (stamps in .cache/stamps, keyed by hashes of what goes in), so a run
 * with nothing to do takes a fraction of a second. A step that fails stops the run and says what was asked, what is wrong and
 * what to do; what the machine merely lacks for a part of the work is named and the run goes on. Concurrent runs wait for
 * each other. Everything is said on standard error: standard output belongs to the command that follows.
 *
 *   node scripts/setup.mjs [--quiet] [--no-install] [--build-only] [--tools-only]
 *     --quiet       says only what it does, not what is already done
 *     --no-install  (or VMSTORAGE_NO_INSTALL=1, which npm test and npm run demo hear too) installs no Debian package and adds no package
 *                   source: what is missing is named. Without it the first line says what will be installed, and how to prevent it
 *     --build-only  what is built from this checkout; no Debian packages, no guest kernel
 *     --tools-only  Debian and npm packages; builds nothing
 */
import { join } from 'node:path';
import { addonStep, npmStep, shimStep, typescriptStep, wizardStep } from './setup/builds.mjs';
import { debianStep, NO_INSTALL } from './setup/debian.mjs';
import { initrdStep, kernelStep } from './setup/guest.mjs';
import { withSetupLock } from './setup/lock.mjs';
import { root, runSteps, SetupFailure } from './setup/step.mjs';

const allowed = new Set(['--quiet', '--no-install', '--build-only', '--tools-only']);
const given = process.argv.slice(2);
const unknown = given.find((argument) => !allowed.has(argument));
if (unknown !== undefined) {
  console.error(`setup: unknown argument ${unknown}; there are ${[...allowed].join(', ')}.`);
  process.exit(2);
}
if (given.includes('--no-install')) process.env[NO_INSTALL] = '1';
const quiet = given.includes('--quiet');
const builds = [npmStep, addonStep, typescriptStep, wizardStep, shimStep, initrdStep];
const steps = given.includes('--tools-only')
  ? [debianStep, npmStep]
  : given.includes('--build-only')
    ? builds
    : [debianStep, npmStep, addonStep, typescriptStep, wizardStep, shimStep, kernelStep, initrdStep];

try {
  await withSetupLock(() => runSteps(steps, quiet));
} catch (error) {
  if (!(error instanceof SetupFailure)) throw error;
  console.error(
    `setup: asked:      ${error.asked}\nsetup: wrong:      ${error.message.trimEnd().replaceAll('\n', '\nsetup:             ')}\nsetup: what to do: ${error.advice}`,
  );
  console.error(`setup: folder:     ${join(root, '.cache')} holds what was done so far; run the same command again afterwards.`);
  process.exit(1);
}
