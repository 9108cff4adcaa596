/**
 * `npm run bench -- wizard`: what the page costs, on a host with a thousand machines that are off. There is no peer: each figure stands beside
 * what is aimed at.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Browser } from 'playwright-core';
import { repository } from '../../test/support/guest-kernel.js';
import { Instance } from '../../test/support/instance.js';
import { openChromium, openPage, WizardProcess, type WizardPage } from '../../test/support/wizard-page.js';
import { privateDirtyMiB } from './memory.js';
import { spread, type Spread } from './statistics.js';

export const MACHINES = 1000;
/** From top to bottom in so many steps, one a frame. */
const SCROLL_STEPS = 240;

export interface WizardFigures {
  readonly scriptKiB: number;
  readonly scriptGzipKiB: number;
  /** From the navigation to the first contentful paint, and to all machines being there. */
  readonly firstPaintMs: Spread;
  readonly machinesShownMs: Spread;
  /** Tasks of more than 50 ms while a thousand machines are scrolled, and the longest. */
  readonly longTasks: Spread;
  readonly longestTaskMs: Spread;
  readonly framesPerSecond: Spread;
  /** Private_Dirty of the gateway before a page was open, and with one. */
  readonly gatewayIdleMiB: number;
  readonly gatewayOpenMiB: number;
}

interface Scrolled {
  readonly longTasks: number;
  readonly longestMs: number;
  readonly framesPerSecond: number;
}

export async function measureWizard(rounds: number, say: (text: string) => void): Promise<WizardFigures> {
  const assets = join(repository, 'dist/wizard/assets');
  const scripts = readdirSync(assets).filter((name) => name.endsWith('.js'));
  const kib = (bytes: number): number => Math.round((bytes / 1024) * 10) / 10;
  await using instance = await Instance.start('benchw');
  say(`making ${MACHINES} machines`);
  for (let at = 0; at < MACHINES; at++)
    await instance.run(
      'New-VM',
      { Name: `machine-${String(at).padStart(4, '0')}`, Path: join(instance.folder, `vm-${at}`) },
      { set: 'No VHD' },
    );
  await using wizard = await WizardProcess.start(instance.environment);
  const gatewayIdleMiB = await privateDirtyMiB(wizard.pid);
  let gatewayOpenMiB = 0;
  const browser = await openChromium();
  const [firstPaint, shown, longTasks, longest, frames]: [number[], number[], number[], number[], number[]] = [[], [], [], [], []];
  try {
    for (let round = 0; round < rounds; round++) {
      say(`round ${round + 1} of ${rounds}`);
      const { page, machinesShownMs } = await open(browser, await wizard.newLink());
      firstPaint.push(await page.evaluate<number>("performance.getEntriesByName('first-contentful-paint')[0].startTime"));
      shown.push(machinesShownMs);
      gatewayOpenMiB = Math.max(gatewayOpenMiB, await privateDirtyMiB(wizard.pid));
      const scrolled = await scroll(page);
      longTasks.push(scrolled.longTasks);
      longest.push(scrolled.longestMs);
      frames.push(scrolled.framesPerSecond);
      await page.context().close();
    }
  } finally {
    await browser.close();
  }
  return {
    scriptKiB: kib(scripts.reduce((sum, name) => sum + statSync(join(assets, name)).size, 0)),
    scriptGzipKiB: kib(scripts.reduce((sum, name) => sum + gzipSync(readFileSync(join(assets, name))).length, 0)),
    ...{ firstPaintMs: spread(firstPaint), machinesShownMs: spread(shown) },
    ...{ longTasks: spread(longTasks), longestTaskMs: spread(longest), framesPerSecond: spread(frames) },
    ...{ gatewayIdleMiB, gatewayOpenMiB },
  };
}

async function open(browser: Browser, link: string): Promise<{ page: WizardPage; machinesShownMs: number }> {
  const page = await openPage(browser, link);
  await page.locator(`table[aria-rowcount="${MACHINES + 1}"]`).waitFor();
  return { page, machinesShownMs: await page.evaluate<number>('performance.now()') };
}

/** Runs in the page: as text, because scripts know no browser's types. */
const scrollScript = `new Promise((resolve) => {
  const list = document.querySelector('.machines');
  let longTasks = 0, longestMs = 0, step = 0;
  new PerformanceObserver((seen) => {
    for (const { duration } of seen.getEntries()) { longTasks += 1; longestMs = Math.max(longestMs, duration); }
  }).observe({ type: 'longtask' });
  const beganMs = performance.now();
  const next = () => {
    list.scrollTop = (list.scrollHeight - list.clientHeight) * (step / ${SCROLL_STEPS});
    step += 1;
    if (step <= ${SCROLL_STEPS}) return requestAnimationFrame(next);
    const framesPerSecond = ${SCROLL_STEPS} / ((performance.now() - beganMs) / 1000);
    setTimeout(() => resolve({ longTasks, longestMs, framesPerSecond }), 200);
  };
  requestAnimationFrame(next);
})`;

async function scroll(page: WizardPage): Promise<Scrolled> {
  const scrolled = await page.evaluate<Scrolled>(scrollScript);
  // The last machine is in sight: what was scrolled was the list.
  await page.getByRole('checkbox', { name: `Choose machine-${String(MACHINES - 1).padStart(4, '0')}` }).waitFor();
  return scrolled;
}

export function renderWizardFigures(figures: WizardFigures): string {
  const of = ({ median, min, max }: Spread, unit: string, digits = 0): string =>
    `${median.toFixed(digits)}${unit} (${min.toFixed(digits)}..${max.toFixed(digits)})`;
  const rows: readonly (readonly [what: string, figure: string, aim: string])[] = [
    ['script', `${figures.scriptKiB} KiB (${figures.scriptGzipKiB} compressed)`, 'at most 150 KiB'],
    ['first paint', of(figures.firstPaintMs, ' ms'), 'at most 1 s'],
    [`${MACHINES} machines shown`, of(figures.machinesShownMs, ' ms'), ''],
    ['tasks over 50 ms while they are scrolled', of(figures.longTasks, ''), 'none'],
    ['longest of them', of(figures.longestTaskMs, ' ms'), ''],
    ['frames per second meanwhile', of(figures.framesPerSecond, ''), '60'],
    ['memory of the gateway (Private_Dirty), idle', `${figures.gatewayIdleMiB.toFixed(1)} MiB`, ''],
    ['with that page open', `${figures.gatewayOpenMiB.toFixed(1)} MiB`, ''],
  ];
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map(([what, figure, aim]) => `${what.padEnd(widths[0]!)}  ${figure.padEnd(widths[1]!)}  ${aim}`.trimEnd()).join('\n') + '\n';
}
