/** `vmstorage wizard`: runs the gateway in this process until Ctrl+C, and prints links to its page. */
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { hostAddress } from '../client/address.js';
import { reasonOf } from '../os/errno.js';
import { complain, print } from '../os/terminal.js';
import { startGateway } from '../wizard/gateway/gateway.js';
import { hasDesktop, openBrowser } from '../wizard/gateway/open-browser.js';
import { readPageFiles } from '../wizard/gateway/page-files.js';
import { ensureHost } from './host-process.js';
import { parseInteger } from './literal/numbers.js';
import { refuse } from './refuse.js';

const pageFolder = fileURLToPath(new URL('../../wizard', import.meta.url));
const PORT_MOST = 65_535n;

export async function runWizard({ port, browser }: { readonly port: unknown; readonly browser: boolean }): Promise<number> {
  const number = readPort(port);
  await ensureHost();
  const gateway = await startGateway({
    port: number,
    hostAddress: hostAddress(),
    files: await readPageFiles(pageFolder),
    say: complain,
  });
  const removeFile = await opened(() => gateway.newLink(), browser);
  const lines = createInterface({ input: process.stdin });
  lines.on('line', () => print(gateway.newLink()));
  await new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => resolve());
  });
  lines.close();
  await removeFile();
  await gateway.close();
  return 0;
}

/** Prints a link in any case: the browser may open nothing. */
async function opened(newLink: () => string, browser: boolean): Promise<() => Promise<void>> {
  let remove = async (): Promise<void> => {};
  if (browser && hasDesktop(process.env)) {
    try {
      remove = await openBrowser(newLink());
    } catch (error) {
      complain(`No browser could be opened (${reasonOf(error)}). Open the link yourself.`);
    }
  }
  print(newLink());
  complain('The link works once, within a minute. Enter prints a new one, Ctrl+C ends the wizard; moves go on.');
  return remove;
}

function readPort(given: unknown): number {
  if (given === undefined) return 0;
  const port = parseInteger(String(given));
  if (port === undefined || port < 1n || port > PORT_MOST)
    return refuse(`--port takes a number from 1 to ${PORT_MOST}, not '${String(given)}'.`);
  return Number(port);
}
