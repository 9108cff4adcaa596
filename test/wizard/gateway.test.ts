/** The gateway as somebody meets it who is not the page: other sites, other machines, wrong and used links, malformed and endless requests. */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:http';
import { connect, createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { repository } from '../support/guest-kernel.js';
import { Instance } from '../support/instance.js';
import { until } from '../support/until.js';
import { WizardProcess } from '../support/wizard-page.js';

let instance: Instance;
let wizard: WizardProcess;
beforeAll(async () => {
  instance = await Instance.start('gate');
  wizard = await WizardProcess.start(instance.environment);
});
afterAll(async () => {
  await wizard?.[Symbol.asyncDispose]();
  await instance?.[Symbol.asyncDispose]();
});

interface Answer {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly body: string;
}

const port = (): number => Number(new URL(wizard.first).port);
const secretOf = (link: string): string => new URL(link).hash.slice('#s='.length);

function ask(path: string, how: { method?: string; headers?: { [name: string]: string }; body?: string } = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request(
      { host: '127.0.0.1', port: port(), path, method: how.method ?? 'GET', headers: how.headers ?? {} },
      (response) => {
        let body = '';
        response.on('data', (text: Buffer) => (body += text.toString()));
        response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, body }));
        response.on('error', reject);
      },
    );
    asked.on('error', reject);
    asked.end(how.body);
  });
}

const own = (): { [name: string]: string } => ({ Origin: wizard.origin, 'Content-Type': 'application/json' });
const post = (path: string, body: unknown, headers: { [name: string]: string } = {}): Promise<Answer> =>
  ask(path, { method: 'POST', headers: { ...own(), ...headers }, body: typeof body === 'string' ? body : JSON.stringify(body) });
async function bearer(): Promise<{ Authorization: string }> {
  const { body } = await post('/api/session', { secret: secretOf(await wizard.newLink()) });
  return { Authorization: `Bearer ${(JSON.parse(body) as { bearer: string }).bearer}` };
}
const message = ({ body }: Answer): string => (JSON.parse(body) as { error: { message: string } }).error.message;

describe('links', () => {
  it('work once; a second use is refused, said on the terminal, and leaves the first page as it is', async () => {
    const secret = secretOf(await wizard.newLink());
    const first = await post('/api/session', { secret });
    expect(first.status).toBe(200);
    const authorization = { Authorization: `Bearer ${(JSON.parse(first.body) as { bearer: string }).bearer}` };
    const second = await post('/api/session', { secret });
    expect(second.status).toBe(403);
    expect(message(second)).toBe('The link cannot be used: it was used already.');
    await until(
      'it is said on the terminal',
      () => wizard.said.includes('refused: The link cannot be used: it was used already.') || undefined,
    );
    expect((await post('/api/plan', {}, authorization)).status).toBe(400);
  });

  it('that are made up open nothing, and neither does any request without a bearer', async () => {
    expect((await post('/api/session', { secret: 'x'.repeat(43) })).status).toBe(403);
    for (const path of ['/api/plan', '/api/move', '/api/stop', '/api/nothing']) expect((await post(path, {})).status).toBe(401);
    expect((await ask('/api/stream')).status).toBe(401);
    expect((await ask('/api/stream', { headers: { Authorization: 'Bearer made-up' } })).status).toBe(401);
  });
});

describe('other sites and machines', () => {
  it('a foreign Host is refused, whatever it asks for: a name that leads here is not ours', async () => {
    for (const host of ['evil.example', `evil.example:${port()}`, '127.0.0.1.evil.example', '10.0.0.1']) {
      const answer = await ask('/', { headers: { Host: host } });
      expect(answer.status).toBe(403);
      expect(answer.body).not.toContain('<script');
    }
    for (const host of ['localhost:9999', '127.0.0.1', '[::1]:80']) expect((await ask('/', { headers: { Host: host } })).status).toBe(200);
  });

  it('a foreign Origin is refused, with a good link and with a good bearer', async () => {
    const secret = secretOf(await wizard.newLink());
    for (const origin of ['http://evil.example', 'null', `https://127.0.0.1:${port()}`, 'http://127.0.0.1:1']) {
      expect((await post('/api/session', { secret }, { Origin: origin })).status).toBe(403);
      expect((await post('/api/plan', {}, { ...(await bearer()), Origin: origin })).status).toBe(403);
    }
    expect((await ask('/api/session', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{}' })).status).toBe(403);
    expect((await post('/api/session', { secret })).status).toBe(200);
  });

  it('the page may load what is ours alone, be framed by nobody, and sets no cookie', async () => {
    const { headers, body, status } = await ask('/');
    expect(status).toBe(200);
    expect(headers['content-security-policy']).toMatch(/^default-src 'none'; script-src 'self'; style-src 'self';/);
    expect(headers['content-security-policy']).not.toMatch(/unsafe|\*|http/);
    expect(headers).toMatchObject({ 'x-frame-options': 'DENY', 'referrer-policy': 'no-referrer', 'cache-control': 'no-store' });
    expect(headers['set-cookie']).toBeUndefined();
    expect(body).not.toMatch(/<script(?![^>]*src=)|<style|style=|\son\w+=|https?:/);
  });

  it('nobody but this machine reaches it', async () => {
    const { networkInterfaces } = await import('node:os');
    const others = Object.values(networkInterfaces()).flatMap(
      (some) => some?.filter(({ internal, family }) => !internal && family === 'IPv4') ?? [],
    );
    for (const { address } of others) {
      const socket = connect({ host: address, port: port() });
      const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
      expect(error.code).toBe('ECONNREFUSED');
    }
  });
});

describe('requests that are not as the page sends them', () => {
  const order = {
    ...{ vmId: '5381f80d-2f0c-4f0e-9c3b-0d8f6f1b2a3c', vmName: 'x', nameIsUnique: true, retainSources: false, requireFullSize: false },
    destination: { kind: 'single', folder: '/x' },
  };

  it.each([
    ['no JSON', 'nonsense'],
    ['nothing', ''],
    ['no orders', { orders: [] }],
    ['too many', { orders: Array.from({ length: 501 }, () => order) }],
    ['a name in the place of an id', { orders: [{ ...order, vmId: 'web01' }] }],
    ['a parameter of its own', { orders: [{ ...order, Force: true }] }],
    ['a folder that is no text', { orders: [{ ...order, destination: { kind: 'single', folder: { $t: 'x' } } }] }],
    ['a path without end', { orders: [{ ...order, destination: { kind: 'single', folder: `/${'x'.repeat(5000)}` } }] }],
  ])('%s: refused, and the host is asked nothing', async (_, body) => {
    const answer = await post('/api/move', body, await bearer());
    expect(answer.status).toBe(400);
    expect(message(answer)).toContain('The request is not as the wizard of this version sends it');
    expect(await instance.run('Get-VMStorageMove', {})).toEqual([]);
  });

  it('one that is too long is not read to its end', async () => {
    const answer = await post('/api/plan', 'x'.repeat(1_100_000), await bearer()).catch((error: NodeJS.ErrnoException) => error);
    if (answer instanceof Error) expect(answer).toMatchObject({ code: expect.stringMatching(/ECONNRESET|EPIPE/) as string });
    else expect(message(answer)).toContain('at most 1048576 bytes');
  });

  it('a form of another site is no request; files are read only, and there are no others than the page has', async () => {
    const form = await post('/api/session', 'secret=x', { 'Content-Type': 'application/x-www-form-urlencoded' });
    expect(form.status).toBe(400);
    expect((await ask('/', { method: 'PUT', headers: own() })).status).toBe(405);
    for (const path of ['/../../etc/passwd', '/%2e%2e/%2e%2e/etc/passwd', '/index.html/..', '/api/../index.htm'])
      expect([401, 404]).toContain((await ask(path)).status);
  });

  it('a machine that is not there is a plan that says so, and a move that was not begun', async () => {
    const authorization = await bearer();
    const planned = JSON.parse((await post('/api/plan', { orders: [order] }, authorization)).body) as { plans: unknown };
    expect(planned).toMatchObject({ plans: [{ plan: null, failure: { code: 'ObjectNotFound' } }] });
    const moved = JSON.parse((await post('/api/move', { orders: [order] }, authorization)).body) as { begun: unknown };
    expect(moved).toMatchObject({ begun: [{ moveId: null, failure: { code: 'ObjectNotFound' } }] });
  });

  it('a session has four streams at a time', async () => {
    const authorization = await bearer();
    const open = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const asked = request({ host: '127.0.0.1', port: port(), path: '/api/stream', headers: authorization });
        asked.on('error', () => {});
        asked.end();
        const [response] = (await once(asked, 'response')) as [{ statusCode: number }];
        expect(response.statusCode).toBe(200);
        return asked;
      }),
    );
    expect((await ask('/api/stream', { headers: authorization })).status).toBe(429);
    for (const asked of open) asked.destroy();
  });
});

describe('the command', () => {
  const run = (...words: readonly string[]): { status: number | null; stderr: string; stdout: string } =>
    spawnSync(process.execPath, [join(repository, 'dist/src/cli/main.js'), 'wizard', ...words], {
      env: { ...instance.environment, DISPLAY: '' },
      encoding: 'utf8',
      timeout: 30_000,
    });

  it('a port in use is named, with what to do', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port: taken } = other.address() as AddressInfo;
    const { status, stderr } = run('--no-browser', '--port', String(taken));
    other.close();
    expect(status).not.toBe(0);
    expect(stderr).toContain(`The wizard cannot listen on port ${taken} of 127.0.0.1: another program listens there.`);
  });

  it.each(['0', '80.5'])('--port %s is refused', (given) => {
    const { status, stderr } = run('--no-browser', `--port=${given}`);
    expect(status).not.toBe(0);
    expect(stderr).toContain('--port takes a number from 1 to 65535');
  });

  it('--help says how to use it from another computer', () => {
    expect(run('--help').stdout).toMatch(/ssh -L/);
  });
});
