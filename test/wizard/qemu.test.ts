/** The same with a real guest in QEMU: its disks are moved through the page while it runs, and judged by readers that are not ours. */
import { basename, join } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Instance } from '../support/instance.js';
import { Machine } from '../support/machine.js';
import { lacks, requires } from '../support/requires.js';
import { chromiumProgram, openChromium, openPage, WizardProcess } from '../support/wizard-page.js';

describe.skipIf(lacks('qemu-system-x86_64', 'qemu-img', 'qemu-io', 'guest') || !requires('chromium', chromiumProgram()))(
  'a guest in QEMU',
  () => {
    let instance: Instance;
    let vm: Machine;
    let wizard: WizardProcess;
    let browser: Browser;
    const at = (place: string): string => join(instance.folder, place);

    beforeAll(async () => {
      instance = await Instance.start('wizq');
      vm = await Machine.create(instance, {
        name: 'moved',
        folder: at('slow'),
        disks: ['system.vhdx'],
        guest: 'w.span=64 w.qd=4 w.iops=300 w.fsync=4',
      });
      await vm.start();
      wizard = await WizardProcess.start(instance.environment);
      browser = await openChromium();
    });
    afterAll(async () => {
      await browser?.close();
      await wizard?.[Symbol.asyncDispose]();
      await vm?.[Symbol.asyncDispose]();
      await instance?.[Symbol.asyncDispose]();
    });

    it('is moved through the page while it runs, and every byte is what it wrote', async () => {
      const page = await openPage(browser, wizard.first);
      await page.getByRole('checkbox', { name: 'Choose moved' }).check();
      await page.getByRole('button', { name: 'Move ...' }).click();
      for (const heading of ['Before You Begin', 'Choose Move Type', 'Choose Options for Moving Storage']) {
        await page.getByRole('heading', { level: 1, name: heading }).waitFor();
        await page.getByRole('button', { name: 'Next >' }).click();
      }
      await page.getByRole('textbox', { name: 'Folder for All data of moved' }).fill(at('fast'));
      await page.getByRole('button', { name: 'Next >' }).click();
      await page.getByText(/needed at .* free/).waitFor();
      await page.getByRole('button', { name: 'Finish' }).click();
      await page.getByText('The move of "moved" is complete.').waitFor({ timeout: 180_000 });
      const targets = vm.disks.map((path) => join(at('fast'), 'Virtual Hard Disks', basename(path)));
      expect(await vm.diskPaths()).toEqual(targets);
      await page.getByText('Guest p99', { exact: true }).first().waitFor();
      expect(page.troubles).toEqual([]);
      await vm.console.goesOn(1);
      await vm.stopAndCheck(targets);
    });
  },
);
