/** The frame of the page: who is asked as whom, language and appearance, and the view that is open. */
import { Home } from './home.js';
import { Performing } from './performing.js';
import { hostTrouble, isCurrent, locked, route, session } from './store.js';
import { language, t, theme, type Theme } from './text.js';
import { languages, type Language } from '../words/words.js';
import { Wizard } from './wizard-view.js';

export function App() {
  return (
    <>
      <a class="skip" href="#content" onClick={focusContent}>
        {t('skip')}
      </a>
      <Header />
      <main id="content" tabIndex={-1}>
        {hostTrouble.value !== null && locked.value === null && (
          <p class="notice warning" role="alert">
            {t('hostLost', { reason: hostTrouble.value })}
          </p>
        )}
        <View />
      </main>
    </>
  );
}

/** The fragment is for secrets: the link moves the focus and leaves the address alone. */
function focusContent(event: Event): void {
  event.preventDefault();
  document.querySelector<HTMLElement>('#content')!.focus();
}

function View() {
  if (locked.value) {
    return (
      <section class="card narrow">
        <h1>{t('linkNeeded')}</h1>
        {locked.value.reason !== null && (
          <p class="notice warning" role="alert">
            {t('linkRefused', { reason: locked.value.reason })}
          </p>
        )}
        <p>{t('linkNeededWhy')}</p>
      </section>
    );
  }
  if (!isCurrent.value) return <p role="status">{t('connecting')}</p>;
  const { value } = route;
  switch (value.at) {
    case 'home':
      return <Home />;
    case 'wizard':
      return <Wizard state={value.wizard} />;
    case 'performing':
      return <Performing shown={value.moves} />;
  }
}

function Header() {
  return (
    <header class="bar">
      <span class="brand">{t('title')}</span>
      {session.value && <span class="who">{t('hostOn', { name: session.value.computerName, user: session.value.user })}</span>}
      <label>
        {t('language')}
        <select value={language.value} onChange={(event) => (language.value = event.currentTarget.value as Language)}>
          {Object.entries(languages).map(([code, name]) => (
            <option key={code} value={code} lang={code}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <label>
        {t('theme')}
        <select value={theme.value} onChange={(event) => (theme.value = event.currentTarget.value as Theme)}>
          {(['Auto', 'Light', 'Dark'] as const).map((one) => (
            <option key={one} value={one}>
              {t(`theme${one}`)}
            </option>
          ))}
        </select>
      </label>
    </header>
  );
}
