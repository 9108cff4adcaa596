/** The line on the summary is what it says: run as it is printed, by PowerShell, it does the move that the wizard would have done. */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { moduleEnvironment, pwshOrUndefined } from '../support/pwsh.js';
import { requires } from '../support/requires.js';
import { chromiumProgram } from '../support/wizard-page.js';
import { WizardScene } from '../support/wizard-scene.js';

const run = promisify(execFile);
const pwsh = await pwshOrUndefined();

describe.skipIf(!requires('chromium', chromiumProgram()) || !requires('pwsh', pwsh))('the printed line', () => {
  let scene: WizardScene;
  const at = (...place: string[]): string => scene.at(...place);

  beforeAll(async () => {
    scene = await WizardScene.open('line', ["it's 'one'"]);
  });
  afterAll(() => scene?.[Symbol.asyncDispose]());

  it.each([
    ['a single location', null],
    ['the disks alone', "Move only the virtual machine's virtual hard disks"],
  ])('%s: runs in PowerShell and moves where the table said', async (what, option) => {
    const { page, vms } = scene;
    const [vm] = vms;
    const to = at(`${what} ’s`);
    await page.getByRole('checkbox', { name: /Choose/ }).check();
    await page.getByRole('button', { name: 'Move ...' }).click();
    await scene.heading('Before You Begin');
    await scene.next();
    await scene.next();
    if (option !== null) await page.getByRole('radio', { name: option }).check();
    await scene.next();
    for (const box of await page.getByRole('textbox', { name: /^Folder for/ }).all()) await box.fill(to);
    await scene.next();
    await page.getByText(/needed at .* free/).waitFor();
    const line = await page.locator('pre').innerText();
    await page.getByRole('button', { name: 'Cancel' }).click();
    const script = join(scene.instance.folder, 'line.ps1');
    writeFileSync(script, `\ufeff$ErrorActionPreference = 'Stop'\n${line}\n`);
    const { PSModulePath } = await moduleEnvironment();
    await run(pwsh!.path, ['-NoProfile', '-NonInteractive', '-File', script], { env: { ...scene.instance.environment, PSModulePath } });
    const folder = option === null ? join(to, 'Virtual Hard Disks') : to;
    expect(await vm!.diskPaths()).toEqual(vm!.leaves.map((leaf) => join(folder, leaf)));
    await vm!.goesOn();
    await page.getByRole('checkbox', { name: /Choose/ }).uncheck();
  });
});
