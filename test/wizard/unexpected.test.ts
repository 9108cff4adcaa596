/** What happens meanwhile: other people, other pages, a host that restarts, machines that change, places that are full, and names with markup in them. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { lacks, requires } from '../support/requires.js';
import { mountTmpfs } from '../support/mounts.js';
import { standStill } from '../support/stand-still.js';
import { chromiumProgram, expectAccessible, photograph, type WizardPage } from '../support/wizard-page.js';
import { WizardScene } from '../support/wizard-scene.js';

const MARKUP = `<img src=x onerror="document.title='taken'">&amp;'"`;
const never = new Promise(() => {});

describe.skipIf(!requires('chromium', chromiumProgram()) || lacks('root'))('the wizard, when other things happen', () => {
  let scene: WizardScene;
  let page: WizardPage;
  const at = (...place: string[]): string => scene.at(...place);
  const refusal = (text: string | RegExp): Promise<void> => page.getByRole('alert').filter({ hasText: text }).waitFor();

  beforeAll(async () => {
    scene = await WizardScene.open('odd', ['web01']);
    page = scene.page;
  });
  afterEach(async () => {
    // Each test begins at the home page of the same page.
    const cancel = page.getByRole('button', { name: 'Cancel' });
    if (await cancel.isVisible()) await cancel.click();
    else if (await page.getByRole('button', { name: 'All virtual machines' }).isVisible()) await scene.home();
    for (const box of await page.getByRole('checkbox', { checked: true }).all()) await box.uncheck();
  });
  afterAll(() => scene?.[Symbol.asyncDispose]());

  it('two browsers see one move; one of them leaves in the middle, and nothing changes', async () => {
    const [vm] = scene.vms;
    const other = await scene.another(await scene.wizard.newLink());
    await scene.begin('web01', at('b'), other);
    expect(await vm!.probe.inPhase(['copy', 'mirror', 'verify'], never)).not.toBeNull();
    const held = standStill(vm!.probe.pid!);
    await page.getByRole('button', { name: 'Show the move of web01' }).click();
    await page.getByRole('button', { name: 'Stop the move of web01' }).waitFor();
    await other.context().close();
    held[Symbol.dispose]();
    await scene.isComplete('web01');
    expect(await vm!.diskPaths()).toEqual(vm!.leaves.map((leaf) => at('b', 'Virtual Hard Disks', leaf)));
  });

  it('a host that restarts in the middle of a move is said not to answer, then the move is found again and ends', async () => {
    const [vm] = scene.vms;
    await scene.begin('web01', at('c'));
    expect(await vm!.probe.inPhase(['copy', 'mirror', 'verify'], never)).not.toBeNull();
    const held = standStill(vm!.probe.pid!);
    await scene.instance.killHost();
    await refusal('The host does not answer');
    await photograph(page, '10-host-lost');
    held[Symbol.dispose]();
    await scene.instance.startHost();
    await page.getByRole('alert').filter({ hasText: 'The host does not answer' }).waitFor({ state: 'detached' });
    await scene.isComplete('web01');
    expect(await vm!.diskPaths()).toEqual(vm!.leaves.map((leaf) => at('c', 'Virtual Hard Disks', leaf)));
  });

  it('a used link, and a page that is loaded anew, are told how to get another', async () => {
    const link = await scene.wizard.newLink();
    const first = await scene.another(link);
    await first.getByRole('checkbox', { name: /web01/ }).waitFor();
    const second = await scene.another(link);
    await second.getByText('it was used already').waitFor();
    await second.getByRole('heading', { name: 'This page needs a new link' }).waitFor();
    await expectAccessible(second);
    await photograph(second, '11-new-link');
    await first.reload();
    await first.getByRole('heading', { name: 'This page needs a new link' }).waitFor();
    await first.context().close();
    await second.context().close();
  });

  it('a machine that is renamed while the wizard is open is moved all the same; one that is removed is refused in words', async () => {
    await scene.instance.run('New-VM', { Name: 'temp', Path: at('slow', 'temp') }, { set: 'No VHD' });
    await scene.toSummary('temp', at('d'));
    await scene.instance.run('Set-VM', { Name: ['temp'], NewVMName: 'renamed' });
    await page.getByText('Configuration', { exact: true }).waitFor();
    await page.getByRole('button', { name: 'Finish' }).click();
    await page.getByText('is complete.').waitFor();
    await scene.home();
    await scene.toLocations(['renamed']);
    await page.getByRole('textbox', { name: 'Folder for All data of renamed' }).fill(at('e'));
    await scene.instance.run('Remove-VM', { Name: ['renamed'], Force: true });
    await scene.next();
    await refusal('Hyper-V was unable to find a virtual machine');
    expect(await page.getByRole('button', { name: 'Finish' }).isDisabled()).toBe(true);
  });

  it('a place that is full, read-only, gone or taken is refused by the host, beside the machine it concerns', async () => {
    mkdirSync(at('taken', 'Virtual Hard Disks'), { recursive: true });
    writeFileSync(at('taken', 'Virtual Hard Disks', 'web01.vhdx'), 'of somebody else');
    mkdirSync(at('small'));
    await using small = await mountTmpfs(at('small'), 'size=70m');
    await page.getByRole('article', { name: small.path }).waitFor();
    const refused: [string, RegExp][] = [
      [at('small'), /There is not enough space at/],
      ['/proc/nothing', /cannot be made|not writable|no folders/],
      [at('taken'), /There is a file at .* already; a move never overwrites/],
    ];
    for (const [folder, text] of refused) {
      await scene.toSummary('web01', folder);
      await refusal(text);
      await page.getByText('The host refuses all of these moves').waitFor();
      expect(await page.getByRole('button', { name: 'Finish' }).isDisabled()).toBe(true);
      if (folder === at('small')) await photograph(page, '12-refused');
      await page.getByRole('button', { name: 'Cancel' }).click();
      await page.getByRole('checkbox', { name: 'Choose web01' }).uncheck();
    }
    await scene.toLocations(['web01']);
    await page.getByRole('textbox', { name: 'Folder for All data of web01' }).fill('not/absolute');
    await page.getByText('must begin with a slash').waitFor();
    expect(await page.getByRole('button', { name: 'Next >' }).isDisabled()).toBe(true);
    await expectAccessible(page);
  });

  it('markup in names and paths is text, on every page', async () => {
    mkdirSync(at(MARKUP.replaceAll('/', '')), { recursive: true });
    await scene.instance.run('New-VM', { Name: MARKUP, Path: at('slow', 'markup') }, { set: 'No VHD' });
    await page.getByRole('row').filter({ hasText: MARKUP }).waitFor();
    await scene.toSummary(MARKUP, at(MARKUP.replaceAll('/', '')));
    await page.getByText('Configuration', { exact: true }).waitFor();
    await page.getByRole('button', { name: 'Finish' }).click();
    await scene.isComplete(MARKUP);
    expect(await page.title()).toBe('vmstorage');
    expect(await page.locator('img').count()).toBe(0);
    await scene.home();
    await scene.instance.run('Remove-VM', { Name: [MARKUP], Force: true });
  });

  it('by keyboard alone, in German', async () => {
    const german = await scene.another(await scene.wizard.newLink(), { language: 'de-DE' });
    await german.getByRole('checkbox', { name: /web01/ }).waitFor();
    expect(await german.evaluate('document.documentElement.lang')).toBe('de');
    const press = async (...keys: readonly string[]): Promise<void> => {
      for (const key of keys) await german.keyboard.press(key);
    };
    /** Tab until what has the focus is called so. */
    const tabTo = async (name: string): Promise<void> => {
      for (let presses = 0; presses < 60; presses++) {
        await press('Tab');
        const focused = await german.evaluate(
          "(() => { const e = document.activeElement; return e.getAttribute('aria-label') ?? e.labels?.[0]?.textContent ?? e.textContent; })()",
        );
        if (focused === name) return;
      }
      throw new Error(`Tab does not reach ${name}`);
    };
    await tabTo('web01 auswählen');
    await press('Space');
    await press('Shift+Tab', 'Shift+Tab');
    await press('Enter');
    await scene.heading('Vorbereitung', german);
    for (const title of ['Art der Verschiebung auswählen', 'Optionen zum Verschieben des Speichers auswählen', 'Neuen Ort auswählen']) {
      await tabTo('Weiter >');
      await press('Enter');
      await scene.heading(title, german);
    }
    await tabTo('Ordner für Alle Daten von web01');
    await press('Control+A');
    await german.keyboard.type(at('tastatur'));
    await photograph(german, '05-choose-location-german');
    await expectAccessible(german);
    await tabTo('Weiter >');
    await press('Enter');
    await german.getByText(/werden in .* gebraucht/).waitFor();
    await tabTo('Fertig stellen');
    await press('Enter');
    await german.getByText('Die Verschiebung von "web01" ist abgeschlossen.').waitFor({ timeout: 120_000 });
    expect(german.troubles).toEqual([]);
    await german.context().close();
  });

  it('the disks are what the guest wrote', async () => {
    await expect(scene.vms[0]!.stopAndCheck()).resolves.toBeUndefined();
  });
});
