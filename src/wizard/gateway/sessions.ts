/**
 * Who may use the gateway. A secret stands in the fragment of a link, which no browser sends, logs or passes on; the page exchanges it, once and
 * within a minute, for a bearer that it keeps in memory. Nothing is kept in a cookie, so no other site can act in the user's name.
 *
 * ```text
 *  link(): secret ──exchange within 60 s──▶ bearer ──each use, or an open stream──▶ ... ──30 min without──▶ forgotten
 *             └── a second exchange, or a late one: refused, and said on the terminal
 * ```
 * Only hashes are kept: what leaks out of this process's memory opens nothing.
 */
import { createHash, randomBytes } from 'node:crypto';
import { VmStorageError } from '../../model/errors.js';

export const SECRET_LIMIT_MS = 60_000;
export const IDLE_LIMIT_MS = 30 * 60_000;
/** Links that wait to be opened, and pages that are open: more is no person. */
const SECRETS_MAX = 32;
const SESSIONS_MAX = 16;
const RANDOM_BYTES = 32;

interface Session {
  usedAtMs: number;
  streams: number;
}

export class Sessions {
  /** Hash of the secret -> until when it can be exchanged; null once it was. */
  readonly #secrets = new Map<string, number | null>();
  readonly #sessions = new Map<string, Session>();

  constructor(private readonly nowMs: () => number) {}

  newSecret(): string {
    const secret = randomBytes(RANDOM_BYTES).toString('base64url');
    if (this.#secrets.size >= SECRETS_MAX) this.#secrets.delete(this.#secrets.keys().next().value!);
    this.#secrets.set(hash(secret), this.nowMs() + SECRET_LIMIT_MS);
    return secret;
  }

  /** Returns a bearer; throws (AccessDenied) with the reason in words. */
  exchange(secret: string): string {
    const key = hash(secret);
    const until = this.#secrets.get(key);
    if (until === undefined) throw refused('it is not one of this wizard.');
    if (until === null) throw refused('it was used already.');
    this.#secrets.set(key, null);
    if (this.nowMs() > until) throw refused('it was not opened within a minute.');
    this.#forgetIdle();
    if (this.#sessions.size >= SESSIONS_MAX) this.#forgetLeastUsed();
    if (this.#sessions.size >= SESSIONS_MAX) {
      throw new VmStorageError('InvalidState', `${SESSIONS_MAX} pages are open already. Close one, or wait until it is forgotten.`);
    }
    const bearer = randomBytes(RANDOM_BYTES).toString('base64url');
    this.#sessions.set(hash(bearer), { usedAtMs: this.nowMs(), streams: 0 });
    return bearer;
  }

  /** Of a request's Authorization header. Notes the use. */
  isAllowed(authorization: string | undefined): boolean {
    const session = this.#find(authorization);
    if (session) session.usedAtMs = this.nowMs();
    return session !== undefined;
  }

  /** A stream is a use for as long as it is open. Null when there are too many in this session. */
  openStream(authorization: string | undefined, most: number): (() => void) | null {
    const session = this.#find(authorization);
    if (!session || session.streams >= most) return null;
    session.streams++;
    return () => {
      session.streams--;
      session.usedAtMs = this.nowMs();
    };
  }

  #find(authorization: string | undefined): Session | undefined {
    this.#forgetIdle();
    const bearer = /^Bearer ([\w-]{1,200})$/.exec(authorization ?? '')?.[1];
    return bearer === undefined ? undefined : this.#sessions.get(hash(bearer));
  }

  /** Of the pages that are closed: each link that is opened must not keep the next ones out for half an hour. */
  #forgetLeastUsed(): void {
    const closed = [...this.#sessions].filter(([, { streams }]) => streams === 0).sort(([, a], [, b]) => a.usedAtMs - b.usedAtMs);
    if (closed[0]) this.#sessions.delete(closed[0][0]);
  }

  #forgetIdle(): void {
    for (const [key, { usedAtMs, streams }] of this.#sessions)
      if (streams === 0 && this.nowMs() - usedAtMs > IDLE_LIMIT_MS) this.#sessions.delete(key);
  }
}

const hash = (text: string): string => createHash('sha256').update(text).digest('base64url');

const refused = (why: string): VmStorageError =>
  new VmStorageError('AccessDenied', `The link cannot be used: ${why}`, {
    recommendedAction: 'Press Enter in the terminal where vmstorage wizard runs, and open the new link.',
  });
