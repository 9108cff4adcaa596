/** What the tests of the wizard share: an instance with running machines, its wizard, and a person who knows the way through the pages. */
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { BuiltInVm } from './built-in-vm.js';
import { Instance } from './instance.js';
import { openChromium, openPage, WizardProcess, type WizardPage } from './wizard-page.js';

const MIB = 2 ** 20;

export class WizardScene implements AsyncDisposable {
  readonly vms: BuiltInVm[] = [];
  browser!: Browser;
  wizard!: WizardProcess;
  page!: WizardPage;
  readonly #pages: WizardPage[] = [];

  private constructor(readonly instance: Instance) {}

  static async open(what: string, machines: readonly string[]): Promise<WizardScene> {
    const scene = new WizardScene(await Instance.start(what, (instance) => BuiltInVm.environment(instance)));
    try {
      for (const name of machines) {
        const vm = await BuiltInVm.create(scene.instance, { name, folder: scene.at('slow', name), diskBytes: [96 * MIB, 32 * MIB] });
        await vm.start();
        scene.vms.push(vm);
      }
      scene.wizard = await WizardProcess.start(scene.instance.environment);
      scene.browser = await openChromium();
      scene.page = await scene.another(scene.wizard.first);
      return scene;
    } catch (error) {
      await scene[Symbol.asyncDispose]();
      throw error;
    }
  }

  at(...place: string[]): string {
    return join(this.instance.folder, ...place);
  }

  async another(link: string, how: { width?: number; language?: string } = {}): Promise<WizardPage> {
    const page = await openPage(this.browser, link, how);
    this.#pages.push(page);
    return page;
  }

  /** What went wrong in any page; those that a test made go wrong are its own to look at. */
  troubles(): readonly string[] {
    return this.#pages.flatMap((page) => page.troubles.splice(0));
  }

  heading(name: string, page = this.page): Promise<void> {
    return page.getByRole('heading', { level: 1, name }).waitFor();
  }

  next(page = this.page): Promise<void> {
    return page.getByRole('button', { name: 'Next >' }).click();
  }

  home(page = this.page): Promise<void> {
    return page.getByRole('button', { name: 'All virtual machines' }).click();
  }

  /** From the home page to "Choose a new location" with everything to one folder. */
  async toLocations(names: readonly string[], page = this.page): Promise<void> {
    for (const name of names) await page.getByRole('checkbox', { name: `Choose ${name}`, exact: true }).check();
    await page.getByRole('button', { name: 'Move ...' }).click();
    await this.heading('Before You Begin', page);
    await this.next(page);
    await this.next(page);
    await this.next(page);
    await this.heading('Choose a new location', page);
  }

  /** From the home page to the summary of a move of one machine to one folder. */
  async toSummary(name: string, folder: string, page = this.page): Promise<void> {
    await this.toLocations([name], page);
    await page.getByRole('textbox', { name: `Folder for All data of ${name}`, exact: true }).fill(folder);
    await this.next(page);
    await this.heading('Completing the Move Wizard', page);
  }

  async begin(name: string, folder: string, page = this.page): Promise<void> {
    await this.toSummary(name, folder, page);
    await page.getByText(/needed at .* free/).waitFor();
    await page.getByRole('button', { name: 'Finish' }).click();
  }

  async isComplete(name: string, page = this.page): Promise<void> {
    await page.getByText(`The move of "${name}" is complete.`).waitFor({ timeout: 120_000 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.browser?.close();
    await this.wizard?.[Symbol.asyncDispose]();
    await this.instance[Symbol.asyncDispose]();
  }
}
