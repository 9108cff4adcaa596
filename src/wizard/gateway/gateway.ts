/**
 * The wizard's gateway: a process of the calling user between a browser and the host. It listens on loopback alone and may do what its user may
 * do; the host listens on no port. Every request passes, in this order: Host, Origin, limits, bearer, shape.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { hostname, userInfo } from 'node:os';
import { VmStorageError } from '../../model/errors.js';
import { hasCode, reasonOf } from '../../os/errno.js';
import type { Failure, Session } from '../contract/messages.js';
import { isOwnHost, isOwnOrigin, securityHeaders } from './headers.js';
import { hostEvents } from './host-events.js';
import { beginAll, failureOf, planAll, stopMove } from './host-requests.js';
import type { PageFiles } from './page-files.js';
import { isOrders, isSecret, isStop } from './request-shapes.js';
import { Sessions } from './sessions.js';

const BODY_MAX_BYTES = 1024 * 1024;
const CONNECTIONS_MAX = 64;
const STREAMS_PER_SESSION = 4;
const HEADERS_LIMIT_MS = 10_000;
/** Keeps proxies and tunnels from taking a quiet stream for a dead one, and tells us of a browser that is gone. */
const HEARTBEAT_MS = 10_000;

export interface GatewayOptions {
  /** 0: any that is free. */
  readonly port: number;
  readonly hostAddress: string;
  readonly files: PageFiles;
  /** For the terminal: what was refused. */
  readonly say: (text: string) => void;
  readonly nowMs?: () => number;
}

export interface Gateway {
  readonly port: number;
  /** Good once, for a minute. */
  newLink(): string;
  close(): Promise<void>;
}

export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const sessions = new Sessions(options.nowMs ?? (() => performance.now()));
  const closing = new AbortController();
  const server = createServer({ headersTimeout: HEADERS_LIMIT_MS, requestTimeout: HEADERS_LIMIT_MS, maxHeaderSize: 16 * 1024 });
  server.maxConnections = CONNECTIONS_MAX;
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  server.on('request', (request, response) => {
    answer(request, response, { ...options, sessions, closing: closing.signal }).catch((error: unknown) =>
      refuse(response, statusOf(error), failureOf(error)),
    );
  });
  await listen(server, options.port);
  const { port } = server.address() as AddressInfo;
  return {
    port,
    newLink: () => `http://127.0.0.1:${port}/#s=${sessions.newSecret()}`,
    close: () =>
      new Promise((resolve) => {
        closing.abort();
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => {
      const why = hasCode(cause, 'EADDRINUSE') ? 'another program listens there' : reasonOf(cause);
      reject(
        new VmStorageError('InvalidState', `The wizard cannot listen on port ${port} of 127.0.0.1: ${why}.`, {
          target: String(port),
          recommendedAction: 'Leave --port out for one that is free, or name another one.',
          cause,
        }),
      );
    });
    server.listen({ host: '127.0.0.1', port, exclusive: true }, resolve);
  });
}

interface Scene extends GatewayOptions {
  readonly sessions: Sessions;
  readonly closing: AbortSignal;
}

async function answer(request: IncomingMessage, response: ServerResponse, scene: Scene): Promise<void> {
  const { sessions, files, say } = scene;
  const path = (request.url ?? '/').split('?')[0]!;
  if (!isOwnHost(request)) {
    say(`refused: a request for the host "${shortened(request.headers.host)}"`);
    return refuse(response, 403, denied('This address is not one of the wizard. Open the link as it was printed.'));
  }
  if (!isOwnOrigin(request)) {
    say(`refused: a request of another site, "${shortened(request.headers.origin)}"`);
    return refuse(response, 403, denied('Requests of other sites are refused.'));
  }
  if (!path.startsWith('/api/')) return sendFile(request, response, files.get(path));
  if (path === '/api/session') return openSession(request, response, scene);
  const { authorization } = request.headers;
  if (!sessions.isAllowed(authorization))
    return refuse(response, 401, denied('The link of this page was not opened, or it is forgotten after half an hour without use.'));
  if (path === '/api/stream' && request.method === 'GET') return stream(request, response, scene);
  const gone = goneOf(request, response);
  const body = await readJson(request);
  const { hostAddress } = scene;
  switch (path) {
    case '/api/plan':
      if (!isOrders(body)) throw malformed();
      return send(response, { plans: await planAll(hostAddress, body.orders, gone) });
    case '/api/move':
      if (!isOrders(body)) throw malformed();
      return send(response, { begun: await beginAll(hostAddress, body.orders) }); // a page that leaves now has asked for it all the same
    case '/api/stop':
      if (!isStop(body)) throw malformed();
      return send(response, { warnings: await stopMove(hostAddress, body.moveId, gone) });
    default:
      return refuse(response, 404, { code: 'ObjectNotFound', message: 'There is no such request.', recommendedAction: null });
  }
}

async function openSession(request: IncomingMessage, response: ServerResponse, { sessions, say }: Scene): Promise<void> {
  const body = await readJson(request);
  if (!isSecret(body)) throw malformed();
  try {
    const bearer = sessions.exchange(body.secret);
    const session: Session = { bearer, computerName: hostname().split('.')[0]!, user: userInfo().username };
    send(response, session);
  } catch (error) {
    say(`refused: ${failureOf(error).message}`);
    throw error;
  }
}

function sendFile(request: IncomingMessage, response: ServerResponse, file: ReturnType<PageFiles['get']>): void {
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return refuse(response, 405, { code: 'InvalidParameter', message: 'Files are only read.', recommendedAction: null });
  if (!file) return refuse(response, 404, { code: 'ObjectNotFound', message: 'There is no such file.', recommendedAction: null });
  response.writeHead(200, { ...securityHeaders, 'Content-Type': file.type, 'Content-Length': file.content.length });
  response.end(request.method === 'HEAD' ? undefined : file.content);
}

/** Aborted when nobody waits for the answer any more. */
function goneOf(request: IncomingMessage, response: ServerResponse): AbortSignal {
  const gone = new AbortController();
  response.on('close', () => response.writableEnded || gone.abort());
  request.on('error', () => gone.abort());
  return gone.signal;
}

async function stream(request: IncomingMessage, response: ServerResponse, scene: Scene): Promise<void> {
  const end = scene.sessions.openStream(request.headers.authorization, STREAMS_PER_SESSION);
  if (!end)
    return refuse(response, 429, {
      code: 'InvalidState',
      message: 'This page has too many streams open.',
      recommendedAction: 'Close it and open a new link.',
    });
  const over = AbortSignal.any([goneOf(request, response), scene.closing]);
  const heartbeat = setInterval(() => response.write(':\n\n'), HEARTBEAT_MS);
  try {
    response.writeHead(200, { ...securityHeaders, 'Content-Type': 'text/event-stream' });
    response.flushHeaders();
    for await (const event of hostEvents(scene.hostAddress, over)) {
      if (!response.write(`data: ${JSON.stringify(event)}\n\n`)) await drained(response, over);
    }
  } finally {
    clearInterval(heartbeat);
    end();
    response.end();
  }
}

function drained(response: ServerResponse, over: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const go = (): void => {
      response.off('drain', go);
      over.removeEventListener('abort', go);
      resolve();
    };
    response.on('drain', go);
    over.addEventListener('abort', go);
    if (over.aborted) go();
  });
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  if (request.method !== 'POST') throw new VmStorageError('InvalidParameter', 'This is asked by POST.');
  if (!/^application\/json\b/i.test(request.headers['content-type'] ?? '')) throw malformed();
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += (chunk as Buffer).length;
    if (bytes > BODY_MAX_BYTES) throw new VmStorageError('InvalidParameter', `A request has at most ${BODY_MAX_BYTES} bytes.`);
    chunks.push(chunk as Buffer);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8')) as unknown;
  } catch (cause) {
    throw malformed(cause);
  }
}

function send(response: ServerResponse, body: object): void {
  response.writeHead(200, { ...securityHeaders, 'Content-Type': 'application/json' });
  response.end(JSON.stringify(body));
}

function refuse(response: ServerResponse, status: number, error: Failure): void {
  if (response.headersSent) return void response.destroy();
  // What is still to come of the request is not read.
  response.writeHead(status, { ...securityHeaders, 'Content-Type': 'application/json', Connection: 'close' });
  response.end(JSON.stringify({ error }));
}

function statusOf(error: unknown): number {
  if (!(error instanceof VmStorageError)) return 500;
  const { code } = error;
  return code === 'AccessDenied' ? 403 : code === 'HostNotReachable' || code === 'HostConnectionLost' ? 502 : 400;
}

const denied = (message: string): Failure => ({
  code: 'AccessDenied',
  message,
  recommendedAction: 'Press Enter in the terminal where vmstorage wizard runs, and open the new link.',
});

const malformed = (cause?: unknown): VmStorageError =>
  new VmStorageError(
    'InvalidParameter',
    'The request is not as the wizard of this version sends it. Open a new link.',
    cause === undefined ? {} : { cause },
  );

const shortened = (text: string | undefined): string => (text ?? 'none').replaceAll(/[^\x20-\x7e]/g, '?').slice(0, 100);
