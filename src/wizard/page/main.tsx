/** The page begins: exchanges the secret of its link, then reads the stream for as long as it is open. */
import { effect } from '@preact/signals';
import { render } from 'preact';
import { App } from './app.js';
import { GatewayError, openSession, readStream } from './gateway-client.js';
import { hostTrouble, locked, session, take } from './store.js';
import { language, t, theme } from './text.js';

const AGAIN_MS = 1000;

async function begin(): Promise<void> {
  const secret = /^#s=([\w-]+)$/.exec(location.hash)?.[1];
  // Neither history nor a look at the address bar shows it.
  history.replaceState(null, '', location.pathname);
  if (secret === undefined) {
    locked.value = { reason: null };
    return;
  }
  try {
    session.value = await openSession(secret);
  } catch (error) {
    locked.value = { reason: error instanceof Error ? error.message : String(error) };
    return;
  }
  for (;;) {
    try {
      await readStream(take);
    } catch (error) {
      if (error instanceof GatewayError && error.status === 401) {
        locked.value = { reason: error.message };
        return;
      }
      hostTrouble.value = error instanceof Error ? error.message : String(error);
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}

effect(() => {
  document.documentElement.lang = language.value;
  document.title = t('title');
});
effect(() => {
  document.documentElement.dataset['theme'] = theme.value.toLowerCase();
});
render(<App />, document.querySelector('#app')!);
window.addEventListener('hashchange', () => location.reload()); // a new link, opened in this very tab
void begin();
