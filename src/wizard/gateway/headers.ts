/** What keeps other sites and other machines out, and the page from loading anything that is not ours. */
import type { IncomingMessage } from 'node:http';

/** By any name of this machine alone: a name that somebody else's DNS points at 127.0.0.1 (rebinding) is none of them. The port may be a tunnel's. */
const OWN_HOST = /^(?:127\.0\.0\.1|localhost|\[::1\])(?::\d{1,5})?$/i;

export const isOwnHost = (request: IncomingMessage): boolean => OWN_HOST.test(request.headers.host ?? '');

/** A browser sends Origin with every POST, and with a GET of another site. Whoever sends none is no page. */
export function isOwnOrigin(request: IncomingMessage): boolean {
  const { origin, host } = request.headers;
  if (origin === undefined) return request.method === 'GET' && request.headers['sec-fetch-site'] !== 'cross-site';
  return origin === `http://${host}`;
}

export const securityHeaders: { readonly [name: string]: string } = {
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Cache-Control': 'no-store',
};
