/** An error of the engine arrives with its code, its words and its cause; and none arrives as something else. */
import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ErrorCode } from '../../src/model/errors.js';
import { VmStorageError } from '../../src/model/errors.js';
import { native, type NativeServedDisk } from '../../src/native/binding.js';
import { callNative, fromNative } from '../../src/native/errors.js';
import { checkoutFolder } from '../../src/powershell/checkout.js';
import { makeScratch, type Scratch } from '../support/scratch.js';

const MIB = 1 << 20;
const source = (path: string): string => readFileSync(join(checkoutFolder(), path), 'utf8');

describe('kinds of errors', () => {
  const body = /pub enum ErrorKind \{(.*?)\n\}/s.exec(source('native/engine/src/disk/error.rs'))![1]!;
  const kinds = [...body.matchAll(/^ {4}(\w+),/gm)].map(([, kind]) => kind!);

  it.each(kinds)('%s has a name at the seam and a code here', (kind) => {
    expect(source('native/addon/src/error.rs')).toContain(`ErrorKind::${kind} => "${kind}"`);
    expect(fromNative(new Error(`${kind}\u001fit failed\u001f`)).code).not.toBe('HostInternalError');
  });

  it('the table here has no kind that the engine does not know', () => {
    const table = /const codes[^{]*\{(.*?)\n\}/s.exec(source('src/native/errors.ts'))![1]!;
    expect([...table.matchAll(/^ {2}(\w+):/gm)].map(([, kind]) => kind).sort()).toEqual([...kinds].sort());
  });

  it('an error without a kind is a fault of ours, told whole', () => {
    const error = fromNative(new TypeError('Missing field `index`'));
    expect(error).toMatchObject({ code: 'HostInternalError', message: 'The engine failed: Missing field `index`' });
    expect(error.cause).toBeInstanceOf(TypeError);
  });

  it('the system’s words follow the message, and an error of ours passes unchanged', () => {
    expect(fromNative(new Error('NoSpace\u001fcannot write\u001fNo space left')).message).toBe('Cannot write: No space left.');
    const own = new VmStorageError('InvalidState', 'x');
    expect(fromNative(own)).toBe(own);
  });
});

describe('errors that happen', () => {
  let scratch: Scratch;
  const at = (name: string): string => join(scratch.path, name);
  beforeEach(async () => {
    scratch = await makeScratch('addon');
  });
  afterEach(() => scratch[Symbol.asyncDispose]());

  const failureOf = (call: Promise<unknown>): Promise<unknown> =>
    callNative(call).then(
      () => 'it did not fail',
      (error: unknown) => error,
    );
  /** An error of ours, with the addon's own below it. */
  const failure = (code: ErrorCode, words: RegExp): unknown =>
    expect.objectContaining({ name: 'VmStorageError', code, message: expect.stringMatching(words), cause: expect.any(Error) });

  const create = (path: string, format = 'vhdx', kind = 'dynamic', bytes = String(8 * MIB)): Promise<void> =>
    native().createImage(path, format, kind, bytes, null, null, null, null);
  const disk = (path: string, more: Partial<NativeServedDisk> = {}): NativeServedDisk => ({
    index: 0,
    path,
    format: 'vhdx',
    readOnly: false,
    queues: 1,
    vhostUserSocket: null,
    nbdSocket: null,
    owner: null,
    ...more,
  });

  it('what is not there, is there already, or is no image', async () => {
    expect(await failureOf(native().inspectImage(at('none.img'), 'raw'))).toEqual(failure('ObjectNotFound', /none\.img'.*: No such file/));
    await create(at('a.vhdx'));
    expect(await failureOf(create(at('a.vhdx')))).toEqual(failure('AlreadyExists', /a\.vhdx'.*: File exists/));
    await writeFile(at('text.vhdx'), 'text');
    expect(await failureOf(native().inspectImage(at('text.vhdx'), 'vhdx'))).toEqual(failure('ImageCorrupt', /text\.vhdx'.*corrupt/));
    await mkdir(at('folder.img'));
    expect(await failureOf(native().hashImage(at('folder.img'), 'raw'))).toEqual(failure('InvalidParameter', /folder\.img'/));
  });

  it('words that are none', async () => {
    expect(await failureOf(native().inspectImage(at('a.vhd'), 'vhd'))).toEqual(failure('InvalidParameter', /'vhd' is not a disk format/));
    expect(await failureOf(create(at('a.img'), 'raw', 'thin'))).toEqual(failure('InvalidParameter', /'thin' is not a kind of disk/));
    expect(await failureOf(create(at('a.img'), 'raw', 'dynamic', '8 MB'))).toEqual(
      failure('InvalidParameter', /'8 MB' is not a number of bytes/),
    );
    expect(await failureOf(create(at('a.img'), 'raw', 'dynamic', '1000'))).toEqual(
      failure('InvalidParameter', /1000 bytes is not a whole number/),
    );
    expect(await failureOf(create(at('a.img'), 'raw', 'dynamic', String(2n ** 62n)))).toEqual(failure('NoSpace', /a\.img'/));
    expect(await failureOf(native().inspectImage(at('a.img'), 'raw'))).toEqual(failure('ObjectNotFound', /a\.img/));
  });

  it('an engine refuses what does not fit its state, its numbers and its locks, and goes on', async () => {
    await create(at('a.vhdx'));
    const engine = native().NativeEngine.start(() => undefined);
    const other = native().NativeEngine.start(() => undefined);
    try {
      expect(await failureOf(engine.serve([disk(at('a.vhdx'), { index: -1 })], '', 0))).toEqual(
        failure('InvalidParameter', /not the number of a disk/),
      );
      await engine.serve([disk(at('a.vhdx'))], '', 0);
      expect(await failureOf(engine.serve([disk(at('a.vhdx'))], '', 0))).toEqual(failure('InvalidState', /serves its disks already/));
      expect(await failureOf(other.serve([disk(at('a.vhdx'))], '', 0))).toEqual(failure('ObjectInUse', /a\.vhdx' is in use/));
      expect(await failureOf(engine.stopMove())).toEqual(failure('InvalidState', /[Nn]o move is under way/));
      expect(await failureOf(engine.startMove('{', at('journal')))).toEqual(failure('InvalidParameter', /./));
      expect(JSON.parse(await engine.status())).toMatchObject({ disks: [{ index: 0, path: at('a.vhdx') }], move: null });
    } finally {
      await other.close();
      await engine.close();
    }
  });

  it('a property or parameter that is missing fails, where null is none', async () => {
    await writeFile(at('a.img'), Buffer.alloc(MIB));
    const engine = native().NativeEngine.start(() => undefined);
    try {
      const whole = disk(at('a.img'), { format: 'raw' });
      // What does not fit is thrown at once: nothing has begun.
      const serve =
        (...words: readonly unknown[]) =>
        (): unknown =>
          (engine.serve as (...all: unknown[]) => unknown)(...words);
      for (const name of Object.keys(whole)) {
        const { [name as keyof NativeServedDisk]: _gone, ...rest } = whole;
        expect(serve([rest], '', 0), name).toThrow(name);
        expect(serve([{ ...whole, [name]: undefined }], '', 0), name).toThrow(name);
      }
      expect(serve([{ ...whole, readOnly: null }], '', 0)).toThrow('readOnly');
      expect(serve([{ ...whole, path: null }], '', 0)).toThrow('path');
      expect(serve([whole])).toThrow('String');
      expect(() => (native().inspectImage as (path: string) => Promise<unknown>)(at('a.img'))).toThrow('String');
      await engine.serve([whole], '', 0);
    } finally {
      await engine.close();
    }
    expect(await native().inspectImage(at('a.img'), 'raw')).toMatchObject({ diskIdentifier: null, sizeBytes: BigInt(MIB) });
  });

  it('a handle may be closed twice, at once and again; what is asked of a closed one is InvalidState', async () => {
    await create(at('a.vhdx'));
    const engine = native().NativeEngine.start(() => undefined);
    await engine.serve([disk(at('a.vhdx'), { nbdSocket: at('a.sock') })], '', 0);
    await Promise.all([engine.close(), engine.close()]);
    await engine.close();
    expect(engine.hasPeer()).toBe(false);
    expect(await failureOf(engine.status())).toEqual(failure('InvalidState', /ended/));
    const next = native().NativeEngine.start(() => undefined);
    await next.close();
    expect(await failureOf(next.serve([disk(at('a.vhdx'))], '', 0))).toEqual(failure('InvalidState', /ended/));
    // Its lock is free and its socket gone.
    expect(await failureOf(native().inspectImage(at('a.sock'), 'raw'))).toEqual(failure('ObjectNotFound', /a\.sock/));
    const third = native().NativeEngine.start(() => undefined);
    await third.serve([disk(at('a.vhdx'))], '', 0);
    await third.close();
  });

  it('a guest’s handle is stopped once', async () => {
    expect(() => native().NativeGuest.start('{"sockets":1}')).toThrow(/InvalidArgument.*options/);
    expect(() => native().NativeGuest.start('{"sockets":[],"depth":1}')).toThrow(/unknown field/);
  });
});
