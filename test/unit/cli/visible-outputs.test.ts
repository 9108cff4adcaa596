/** Whatever the texts are that others chose: no edge at which text meets a terminal, a log or a journal lets a character through that is obeyed or hides. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { objectTypes } from '../../../cmdlets/types/index.js';
import { ProgressLine } from '../../../src/cli/progress-line.js';
import { StreamedRows } from '../../../src/cli/streamed-rows.js';
import { renderObjects } from '../../../src/cli/render.js';
import { machineName } from '../../../src/host/methods/new-vm.js';
import { hasHidden, visibleJson, visibleLine } from '../../../src/model/visible.js';
import { createLog } from '../../../src/os/log.js';
import { complain, print, printJson } from '../../../src/os/terminal.js';
import type { WireObject } from '../../../src/protocol/messages.js';

/** What a terminal obeys, what turns the direction of reading, what has no shape; halves of characters. Written apart from the rule that is tested. */
const NASTY = [
  ...['\u0000', '\u0007', '\u0008', '\u001b[2J', '\u001b]0;x\u0007', '\u001b[6n', '\r', '\n', '\n\n', '\t', '\u000b', '\u000c', '\u007f'],
  ...[
    '\u0080',
    '\u0085',
    '\u009b2J',
    '\u009d0;x\u009c',
    '\u00ad',
    '\u034f',
    '\u061c',
    '\u115f',
    '\u180e',
    '\u200b',
    '\u200d',
    '\u200e',
    '\u200f',
  ],
  ...[
    '\u2028',
    '\u2029',
    '\u202a',
    '\u202b',
    '\u202c',
    '\u202d',
    '\u202e',
    '\u2060',
    '\u2066',
    '\u2067',
    '\u2068',
    '\u2069',
    '\u3164',
    '\ufeff',
  ],
  ...['\ufe0f', '\ufff9', '\ud800', '\udc00', '\u{e0001}', '\u{e0041}', '\u{1d173}'],
] as const;
const OBEYED =
  // eslint-disable-next-line no-control-regex, no-misleading-character-class
  /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\ufff9-\ufffb\u{e0000}-\u{e0fff}]|\p{Cs}/u;

const text = fc
  .array(fc.oneof(fc.constantFrom(...NASTY), fc.string({ unit: 'grapheme' }), fc.string({ unit: 'binary' })), { maxLength: 8 })
  .map((parts) => parts.join(''));

function clean(shown: string): void {
  expect(JSON.stringify(OBEYED.exec(shown)?.[0] ?? null)).toBe('null');
}

/** What the four ways to write to a terminal wrote. */
function written(body: () => void): string {
  let all = '';
  const take = (line: unknown): void => void (all += `${String(line)}\n`);
  vi.spyOn(console, 'log').mockImplementation(take);
  vi.spyOn(console, 'error').mockImplementation(take);
  body();
  vi.restoreAllMocks();
  return all;
}
afterEach(() => vi.restoreAllMocks());

/** An object of every type, whose texts are all `one`. */
const objectsOf = (one: string): WireObject[] =>
  Object.entries(objectTypes).map(([name, type]) => ({
    $t: name,
    ...Object.fromEntries(
      Object.entries(
        type.properties as { readonly [name: string]: { readonly type: { readonly kind: string; readonly array?: boolean } } },
      ).map(([property, { type: of }]) => [
        property,
        of.kind === 'object' ? (of.array ? [{ Name: one }] : { Name: one }) : /int|double/.test(of.kind) ? 1 : of.array ? [one, one] : one,
      ]),
    ),
  }));

describe('text that others chose', () => {
  it('is seen as what it is, and nothing else of it changes', () => {
    expect(visibleLine('web\u202e10 \u001b[2J\u009b\r\n\t\u{e0041}\ud800|')).toBe(
      'web\\u{202e}10 \\u{1b}[2J\\u{9b}\\r\\n\\t\\u{e0041}\\u{d800}|',
    );
    fc.assert(fc.property(text, (one) => hasHidden(one) || visibleLine(one) === one));
  });

  it('is seen in tables and lists of objects, each on as many lines as it would be without', () => {
    const lines = renderObjects(objectsOf('x')).split('\n').length;
    fc.assert(
      fc.property(text, (one) => {
        const shown = written(() => print(renderObjects([...objectsOf(one), { $t: 'Future', a: one }])));
        clean(shown);
        expect(renderObjects(objectsOf(one)).split('\n')).toHaveLength(lines);
        for (const json of [false, true]) {
          let rows = '';
          const streamed = new StreamedRows({ write: (row) => (rows += row) }, json);
          for (const object of objectsOf(one)) streamed.show(object);
          clean(rows);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('is seen in a line of progress, on a terminal and off it', () => {
    fc.assert(
      fc.property(text, text, fc.boolean(), (activity, status, isTTY) => {
        let out = '';
        new ProgressLine({ isTTY, columns: 80, write: (part) => (out += part) }).show({
          k: 'progress',
          id: 1,
          activity,
          status,
          percent: 5,
        });
        clean(out.replace(/^\r\u001b\[K/, ''));
        expect(out.trimEnd()).not.toContain('\n');
      }),
    );
  });

  it('is seen in a message, of which no line but the first begins at the edge', () => {
    fc.assert(
      fc.property(text, (one) => {
        const shown = written(() => complain(`vmstorage: ${one}`)).slice(0, -1);
        clean(shown);
        for (const line of shown.split('\n').slice(1)) expect(line).toMatch(/^ {2}/);
      }),
    );
  });

  it('is the same in JSON, as escapes', () => {
    fc.assert(
      fc.property(text, (one) => {
        const document = { [one]: [one, { one }] };
        const shown = written(() => printJson(document, 2));
        clean(shown);
        expect(JSON.parse(shown)).toEqual(document);
        expect(JSON.parse(visibleJson(JSON.stringify(one)))).toBe(one);
      }),
    );
  });

  it('is the same in a line of the log, as escapes, audit lines among them', () => {
    const folder = mkdtempSync(join(tmpdir(), 'vmst-visible-'));
    try {
      fc.assert(
        fc.property(text, (one) => {
          const file = join(folder, 'host.log');
          rmSync(file, { force: true });
          const open = createLog(file, 'info');
          open.log.info({ audit: true, what: one, reason: one, [`key ${one}`]: { deep: [one] } }, `asked: ${one}`);
          open.close();
          const line = readFileSync(file, 'utf8');
          clean(line);
          expect(line.split('\n')).toHaveLength(2);
          // A half of a character is not told apart in UTF-8.
          if (!/\p{Cs}/u.test(one)) expect(JSON.parse(line)).toMatchObject({ what: one, reason: one, msg: `asked: ${one}` });
        }),
        { numRuns: 60 },
      );
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it.each(NASTY.map((one) => [visibleLine(one), one]))('is no name of a machine: %s', (_, one) => {
    expect(() => machineName(`web${one}01`)).toThrow(/cannot be the name of a virtual machine.*none of them a control character/);
  });

  it('is a name when it can be seen, in any script', () => {
    for (const name of ['web 01', 'Ünïcödé', '数据库', 'сервер', 'خادم', '🙂', 'a,b', "it's"]) expect(machineName(name)).toBe(name);
  });
});
