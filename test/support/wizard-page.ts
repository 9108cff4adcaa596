/** The real wizard (`vmstorage wizard`) of an instance, and Debian's Chromium on its page. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { chromium, type Browser, type Page } from 'playwright-core';
import { expect } from 'vitest';
import { repository } from './guest-kernel.js';
import { findProgram } from './requires.js';

/** Artefacts: every page of the wizard as a person sees it. */
export const screenshots = join(repository, '.cache/test/screenshots');
/** A click, and what it shows: a busy machine takes a while. */
const STEP_LIMIT_MS = 20_000;
const axeScript = readFileSync(join(repository, 'node_modules/axe-core/axe.min.js'), 'utf8');

export const chromiumProgram = (): string | null => findProgram('chromium-headless-shell') ?? findProgram('chromium');

/** Of its own accord Chromium asks addresses of its maker for updates and the like: none of that in a test. */
const quietly = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export async function openChromium(): Promise<Browser> {
  return chromium.launch({ executablePath: chromiumProgram()!, args: quietly });
}

export class WizardProcess implements AsyncDisposable {
  readonly #links: string[] = [];
  readonly #ended: Promise<unknown>;
  #wake = (): void => {};
  /** What it said on standard error. */
  said = '';

  private constructor(private readonly child: ChildProcess) {
    this.#ended = once(child, 'exit');
    createInterface({ input: child.stdout! }).on('line', (line) => {
      this.#links.push(line);
      this.#wake();
    });
    child.stderr!.on('data', (text: Buffer) => (this.said += text.toString()));
  }

  static async start(environment: NodeJS.ProcessEnv, ...words: readonly string[]): Promise<WizardProcess> {
    const child = spawn(process.execPath, [join(repository, 'dist/src/cli/main.js'), 'wizard', '--no-browser', ...words], {
      env: { ...environment, DISPLAY: '', WAYLAND_DISPLAY: '' },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const wizard = new WizardProcess(child);
    wizard.first = await wizard.#next();
    return wizard;
  }

  /** The link that was printed at the start. */
  first = '';

  /** Another one, as Enter gives it. */
  newLink(): Promise<string> {
    this.child.stdin!.write('\n');
    return this.#next();
  }

  get origin(): string {
    return new URL(this.first).origin;
  }

  get pid(): number {
    return this.child.pid!;
  }

  async #next(): Promise<string> {
    while (this.#links.length === 0) {
      if (this.child.exitCode !== null) throw new Error(`the wizard ended with ${this.child.exitCode}: ${this.said}`);
      await Promise.race([new Promise<void>((resolve) => (this.#wake = resolve)), this.#ended]);
    }
    return this.#links.shift()!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.child.kill('SIGTERM');
    await this.#ended;
  }
}

export type WizardPage = Page & { readonly troubles: string[] };

/** As a page of its own, with nothing of other pages; what goes wrong in it fails the test. */
export async function openPage(browser: Browser, link: string, how: { width?: number; language?: string } = {}): Promise<WizardPage> {
  const context = await browser.newContext({
    viewport: { width: how.width ?? 1280, height: 900 },
    colorScheme: 'light',
    locale: how.language ?? 'en-GB',
    permissions: ['clipboard-read', 'clipboard-write'],
  });
  const page = Object.assign(await context.newPage(), { troubles: [] as string[] });
  page.on('pageerror', (error) => page.troubles.push(String(error)));
  page.on('console', (message) => message.type() === 'error' && page.troubles.push(message.text()));
  page.on(
    'request',
    (request) => new URL(request.url()).origin !== new URL(link).origin && page.troubles.push(`asked for ${request.url()}`),
  );
  page.setDefaultTimeout(STEP_LIMIT_MS);
  await page.goto(link);
  return page;
}

interface Finding {
  readonly id: string;
  readonly impact: string;
  readonly nodes: readonly { readonly html: string; readonly failureSummary: string }[];
}

/** Nothing that keeps people out: what axe calls serious or critical. */
export async function expectAccessible(page: Page): Promise<void> {
  await page.evaluate(axeScript);
  const findings = await page.evaluate(async () => {
    const { violations } = await (globalThis as unknown as { axe: { run(): Promise<{ violations: Finding[] }> } }).axe.run();
    return violations.map(({ id, impact, nodes }) => ({
      id,
      impact,
      nodes: nodes.map(({ html, failureSummary }) => ({ html, failureSummary })),
    }));
  });
  expect(findings.filter(({ impact }) => impact === 'serious' || impact === 'critical')).toEqual([]);
}

/** One page as a person sees it: wide and narrow, light and dark. */
export async function photograph(page: Page, name: string): Promise<void> {
  mkdirSync(screenshots, { recursive: true });
  const before = page.viewportSize()!;
  for (const width of [1280, 390]) {
    await page.setViewportSize({ width, height: 900 });
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme });
      await page.screenshot({ path: join(screenshots, `${name}-${width}-${colorScheme}.png`), fullPage: true, animations: 'disabled' });
      const scrolls = await page.evaluate('document.documentElement.scrollWidth > document.documentElement.clientWidth');
      expect(scrolls, `${name} is wider than ${width} pixels`).toBe(false);
    }
  }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize(before);
}
