/** A person moves the storage of running machines through the page, and sees at the end where everything is. The guests judge every byte. */
import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { requires } from '../support/requires.js';
import { standStill } from '../support/stand-still.js';
import { chromiumProgram, expectAccessible, photograph } from '../support/wizard-page.js';
import { WizardScene } from '../support/wizard-scene.js';

describe.skipIf(!requires('chromium', chromiumProgram()))('the Move Wizard', () => {
  let scene: WizardScene;
  const at = (...place: string[]): string => scene.at(...place);
  const noTroubles = (): void => expect(scene.troubles()).toEqual([]);

  beforeAll(async () => {
    scene = await WizardScene.open('wiz', ['web01', 'web02']);
  });
  afterAll(() => scene?.[Symbol.asyncDispose]());

  it('shows machines, places and moves; nobody finds the secret in the address', async () => {
    const { page, wizard } = scene;
    await page.getByRole('row', { name: /web01/ }).waitFor();
    expect(page.url()).toBe(`${wizard.origin}/`);
    await page.getByText('No move waits or runs.').waitFor();
    expect(await page.getByRole('button', { name: 'Move ...' }).isDisabled()).toBe(true);
    await page.getByText('Choose at least one virtual machine to move.').waitFor();
    await page.getByRole('article', { name: '/', exact: true }).waitFor();
    await expectAccessible(page);
    await photograph(page, '01-home');
    noTroubles();
  });

  it('moves a running machine from the first page to the last, and shows every path as the host tells it', async () => {
    const { page, vms } = scene;
    const [vm] = vms;
    await page.getByRole('checkbox', { name: 'Choose web01' }).check();
    await page.getByRole('button', { name: 'Move ...' }).click();
    await scene.heading('Before You Begin');
    await expectAccessible(page);
    await photograph(page, '02-before-you-begin');
    await scene.next();
    await scene.heading('Choose Move Type');
    expect(await page.getByRole('radio', { name: 'Move the virtual machine', exact: true }).isDisabled()).toBe(true);
    await expectAccessible(page);
    await photograph(page, '03-choose-move-type');
    await scene.next();
    await scene.heading('Choose Options for Moving Storage');
    await expectAccessible(page);
    await photograph(page, '04-choose-options');
    await scene.next();
    await scene.heading('Choose a new location');
    await page.getByRole('textbox', { name: 'Folder for All data of web01' }).fill(at('fast', 'web01'));
    await expectAccessible(page);
    await photograph(page, '05-choose-location');
    await scene.next();
    await scene.heading('Completing the Move Wizard');
    const line = `Move-VMStorage -VMName 'web01' -DestinationStoragePath '${at('fast', 'web01')}'`;
    expect(await page.locator('pre').innerText()).toBe(line);
    await page.getByText(/needed at .* free/).waitFor();
    await page.getByRole('button', { name: 'Copy' }).click();
    await page.getByText('Copied', { exact: true }).waitFor();
    expect(await page.evaluate('navigator.clipboard.readText()')).toBe(line);
    await expectAccessible(page);
    await photograph(page, '06-summary');
    const sources = await vm!.diskPaths();
    await page.getByRole('button', { name: 'Finish' }).click();
    await scene.heading('Performing the move');
    await scene.isComplete('web01');
    const targets = vm!.leaves.map((leaf) => at('fast', 'web01', 'Virtual Hard Disks', leaf));
    expect(await vm!.diskPaths()).toEqual(targets);
    const rows = page.getByRole('region', { name: 'Where it is now' }).getByRole('row');
    for (const [index, target] of targets.entries()) {
      expect(
        await rows
          .nth(index + 1)
          .getByRole('cell')
          .allInnerTexts(),
      ).toEqual([sources[index], target]);
      expect(existsSync(sources[index]!)).toBe(false);
    }
    const configuration = rows.filter({ hasText: 'Configuration' }).getByRole('cell');
    expect(await configuration.allInnerTexts()).toEqual([at('slow', 'web01'), at('fast', 'web01')]);
    await page.getByRole('heading', { name: 'Receipt' }).waitFor();
    await expectAccessible(page);
    await photograph(page, '08-moved');
    await vm!.goesOn();
    noTroubles();
  });

  it('several machines and disks in one table, each with its own folder, and one line for each machine', async () => {
    const { page, vms } = scene;
    await scene.home();
    for (const name of ['web01', 'web02']) await page.getByRole('checkbox', { name: `Choose ${name}` }).check();
    await page.getByRole('button', { name: 'Move ...' }).click();
    await scene.heading('Before You Begin');
    await scene.next();
    await scene.next();
    await page.getByRole('radio', { name: "Move only the virtual machine's virtual hard disks" }).check();
    await scene.next();
    for (const [index, name] of ['web01', 'web02'].entries()) {
      for (const leaf of vms[index]!.leaves)
        await page.getByRole('textbox', { name: `Folder for Virtual hard disk ${leaf} of ${name}` }).fill(at("it's", name));
    }
    await page.getByRole('checkbox', { name: 'Move Virtual hard disk web02-1.img of web02' }).uncheck();
    await expectAccessible(page);
    await photograph(page, '05-choose-locations-several');
    await scene.next();
    await scene.heading('Completing the Move Wizard');
    const lines = (await page.locator('pre').innerText()).split('\n');
    expect(lines).toHaveLength(2);
    expect(lines[1]).toMatch(
      /^Move-VMStorage -VMName 'web02' -Vhds @\{ SourceFilePath = '.*web02\.vhdx'; DestinationFilePath = '.*it''s.*' \}$/,
    );
    await page
      .getByText(/needed at .* free/)
      .nth(1)
      .waitFor();
    await photograph(page, '06-summary-several');
    await page.getByRole('button', { name: 'Finish' }).click();
    for (const name of ['web01', 'web02']) await scene.isComplete(name);
    expect(await vms[1]!.diskPaths()).toEqual([at("it's", 'web02', 'web02.vhdx'), at('slow', 'web02', 'web02-1.img')]);
    expect(await vms[0]!.diskPaths()).toEqual(vms[0]!.leaves.map((leaf) => at("it's", 'web01', leaf)));
    noTroubles();
  });

  it('shows a move in the middle, is told to stop it, stays on its files, and moves at the second attempt', async () => {
    const { page, vms } = scene;
    const [vm] = vms;
    const before = await vm!.diskPaths();
    await scene.home();
    await scene.begin('web01', at('third'));
    expect(await vm!.probe.inPhase(['copy', 'mirror', 'verify'], new Promise(() => {}))).not.toBeNull();
    const held = standStill(vm!.probe.pid!);
    try {
      const stop = page.getByRole('button', { name: 'Stop the move of web01' });
      await stop.waitFor();
      await page.getByText('Still to copy, at most').waitFor();
      await expectAccessible(page);
      await photograph(page, '07-performing');
      await stop.click();
      await page
        .getByText(/Stopping|does not answer/)
        .first()
        .waitFor();
    } finally {
      held[Symbol.dispose]();
    }
    await page.getByText('The move of "web01" was stopped. The virtual machine uses its old files.').waitFor({ timeout: 60_000 });
    await photograph(page, '09-stopped');
    expect(await vm!.diskPaths()).toEqual(before);
    expect(existsSync(at('third'))).toBe(false);
    await scene.home();
    await scene.begin('web01', at('third'));
    await scene.isComplete('web01');
    await scene.home();
    await page.getByRole('region', { name: 'Past moves' }).waitFor();
    await expectAccessible(page);
    await photograph(page, '01-home-with-moves');
    noTroubles();
  });

  it('every byte of every disk is what its guest wrote, wherever it is by now', async () => {
    for (const vm of scene.vms) await vm.stopAndCheck();
  });
});
