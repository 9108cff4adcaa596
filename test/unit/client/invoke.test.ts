/** The RPC client against a scripted host. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { hostAddress } from '../../../src/client/address.js';
import { complete } from '../../../src/client/complete.js';
import { invoke, invokeAndCollect, type InvocationSink } from '../../../src/client/invoke.js';
import type { VmStorageError } from '../../../src/model/errors.js';
import { vm } from '../../support/objects.js';
import { ScriptedHost } from '../../support/scripted-host.js';

describe('invoke', () => {
  let host: ScriptedHost;
  beforeEach(async () => {
    host = await ScriptedHost.listen();
  });
  afterEach(() => host[Symbol.asyncDispose]());

  const call = (cmdlet: string, bound = {}) => invokeAndCollect(cmdlet, 'Name', bound, { address: host.address, cwd: '/cwd' });
  const quiet: InvocationSink = { output() {}, error() {}, text() {}, progress() {}, ask: () => true };
  const kinds = (): string[] => host.messages.map((message) => message.k);

  it('sends hello, begin, each record and end, and hands over what comes', async () => {
    host.scripts['Get-VM'] = async (script) => {
      await script.output(vm());
      await script.text('warning', 'w');
      await script.progress({ id: 1, activity: 'a', status: 's', percent: 5 });
      await script.error({ message: 'e', code: 'NoSpace', errorId: 'NoSpace', category: 'ResourceUnavailable', target: '/x' });
    };
    const got = await call('Get-VM', { Name: ['web01'] });
    expect(got.output.map((one) => one['Name'])).toEqual(['web01']);
    expect(got.warnings).toEqual(['w']);
    expect(got.progress).toHaveLength(1);
    expect(got.errors[0]).toMatchObject({ code: 'NoSpace', exitCode: 7, target: '/x', message: 'e' });
    expect(kinds()).toEqual(['hello', 'begin', 'process', 'end']);
    expect(host.heard).toEqual([
      {
        cmdlet: 'Get-VM',
        parameterSet: 'Name',
        bound: { Name: ['web01'] },
        cwd: '/cwd',
        prefs: { verbose: false, debug: false, progress: false },
      },
    ]);
  });

  it('a terminating error rejects with its code', async () => {
    host.scripts['Get-VM'] = (script) =>
      script.send({ k: 'terminating', e: { message: 'no', errorId: 'AccessDenied', category: 'PermissionDenied', code: 'AccessDenied' } });
    await expect(call('Get-VM')).rejects.toMatchObject({ code: 'AccessDenied', message: 'no' });
  });

  it('a code of a newer host becomes HostInternalError with the host’s own text and id', async () => {
    host.scripts['Get-VM'] = (script) => script.error({ message: 'new', code: '__proto__', errorId: 'Brand', category: 'NotSpecified' });
    expect((await call('Get-VM')).errors[0]).toMatchObject({ code: 'HostInternalError', errorId: 'Brand', message: 'new' });
  });

  it('a host that dies rejects with HostConnectionLost', async () => {
    host.scripts['Get-VM'] = () => host.cut();
    await expect(call('Get-VM')).rejects.toMatchObject({ code: 'HostConnectionLost' });
  });

  it('a host of another version is asked nothing', async () => {
    host.options = { version: 9 };
    await expect(call('Get-VM')).rejects.toMatchObject({ code: 'HostVersionMismatch' });
    expect(kinds()).toEqual(['hello']);
  });

  it('nobody there is HostNotReachable and says how to start it', async () => {
    const failure = (await invokeAndCollect('Get-VM', 'Name', {}, { address: `${host.folder}/no.sock` }).catch(
      (error: unknown) => error,
    )) as VmStorageError;
    expect(failure.code).toBe('HostNotReachable');
    expect(failure.message).toContain('vmstorage host start');
  });

  it('a stop is sent once, and what follows is heard to the end', async () => {
    const stop = new AbortController();
    host.scripts['Move-VMStorage'] = async (script) => {
      await script.stopped;
      await script.error({ message: 'stopped', code: 'OperationStopped', errorId: 'OperationStopped', category: 'OperationStopped' });
    };
    const errors: string[] = [];
    const running = invoke(
      {
        cmdlet: 'Move-VMStorage',
        records: [
          { parameterSet: 'x', bound: {} },
          { parameterSet: 'x', bound: {} },
        ],
        address: host.address,
        stop: stop.signal,
      },
      { ...quiet, error: (error) => void errors.push(error.code) },
    );
    await host.until(() => kinds().includes('process'));
    stop.abort();
    await running;
    expect(errors).toEqual(['OperationStopped']);
    expect(kinds().filter((kind) => kind === 'stop')).toHaveLength(1);
    expect(kinds().filter((kind) => kind === 'process')).toHaveLength(1);
  });

  it('an aborted signal only closes', async () => {
    const giveUp = new AbortController();
    host.scripts['Get-VM'] = (script) => script.closed;
    const running = invoke(
      { cmdlet: 'Get-VM', records: [{ parameterSet: 'Name', bound: {} }], address: host.address, signal: giveUp.signal },
      quiet,
    );
    await host.until(() => kinds().includes('process'));
    giveUp.abort();
    await expect(running).rejects.toMatchObject({ code: 'OperationStopped' });
    await host.until(() => host.open === 0);
    expect(kinds()).not.toContain('stop');
  });

  it('completion asks the host and never fails', async () => {
    host.options = { complete: (_, word) => [{ text: `${word}01`, tip: '' }] };
    expect(await complete('vmName', 'web', host.address)).toEqual(['web01']);
    expect(await complete('vmName', 'web', '/nonexistent')).toEqual([]);
    host.options = { complete: () => 'silence' };
    expect(await complete('vmName', 'web', host.address)).toEqual([]);
  });

  it('the address comes from the environment, and one too long for a socket is refused', () => {
    expect(hostAddress({})).toBe('/run/vmstorage/host.sock');
    expect(hostAddress({ VMSTORAGE_HOME: '/h' })).toBe('/h/host.sock');
    expect(hostAddress({ VMSTORAGE_HOME: '/h', VMSTORAGE_HOST: '/s' })).toBe('/s');
    expect(() => hostAddress({ VMSTORAGE_HOME: `/${'x'.repeat(110)}` })).toThrow('107');
  });
});
