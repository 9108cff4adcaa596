/** Tables, lists and progress for people. */
import { describe, expect, it } from 'vitest';
import { ProgressLine } from '../../../src/cli/progress-line.js';
import { renderObjects } from '../../../src/cli/render.js';
import { StreamedRows } from '../../../src/cli/streamed-rows.js';
import { drive, host, move, plan, vhd, vm } from '../../support/objects.js';

describe('objects', () => {
  it('neighbours of one type share a table; the rest follows', async () => {
    const text = renderObjects([
      vm(),
      vm({ Name: 'a-longer-name', State: 'Off', Status: 'Moving storage: copy, 37 %' }),
      drive(),
      move(),
      host(),
    ]);
    await expect(`${text}\n`).toMatchFileSnapshot('../../golden/cli/objects.txt');
  });

  it('a disk is a list, values as in PowerShell', async () => {
    await expect(`${renderObjects([vhd({ Size: '18446744073709551615' })])}\n`).toMatchFileSnapshot('../../golden/cli/vhd.txt');
  });

  it('a plan is a list, what is in it told as PowerShell tells it', async () => {
    await expect(`${renderObjects([plan()])}\n`).toMatchFileSnapshot('../../golden/cli/plan.txt');
  });

  it('what goes on is shown as it comes, in rows under one header, or as a document per line', () => {
    const shown = (json: boolean): string => {
      let text = '';
      const rows = new StreamedRows({ write: (part) => (text += part) }, json);
      rows.show(move());
      rows.show(move({ PercentComplete: 99, Phase: 'release' }));
      return text;
    };
    expect(shown(false).split('\n')).toEqual([
      'VMName       Phase        Percent Copied(M) M/s    Left(s) P99(us) Outcome',
      '------       -----        ------- --------- ---    ------- ------- -------',
      'web01        copy         37      1000      100    400     350     Running',
      'web01        release      99      1000      100    400     350     Running',
      '',
    ]);
    const lines = shown(true).trimEnd().split('\n');
    expect(lines.map((line) => (JSON.parse(line) as { Phase: string }).Phase)).toEqual(['copy', 'release']);
  });

  it('an object of a newer host is shown as it came', () => {
    expect(renderObjects([{ $t: 'Future', a: 1 }])).toContain('"a": 1');
  });
});

describe('progress', () => {
  const record = { k: 'progress' as const, id: 1, activity: 'Moving storage of web01', status: 'copy, 120 MB/s, 40 s left', percent: 37.6 };

  it('rewrites one line on a terminal, never longer than it, and clears it', () => {
    const written: string[] = [];
    const line = new ProgressLine({ isTTY: true, columns: 40, write: (text) => written.push(text) });
    line.show(record);
    line.show({ ...record, done: true });
    line.clear();
    expect(written).toEqual(['\r\u001b[K… web01: 37 % copy, 120 MB/s, 40 s left', '\r\u001b[K']);
  });

  it.each([
    [100, 'Moving storage of web01: 37 % copy, 120 MB/s, 40 s left'],
    [20, '…: 37 % copy, 120 M'],
    [0, 'Moving storage of web01: 37 % copy, 120 MB/s, 40 s left'],
  ])('on a terminal of %i columns the figures are what is kept', (columns, shown) => {
    const written: string[] = [];
    new ProgressLine({ isTTY: true, columns, write: (text) => written.push(text) }).show(record);
    expect(written).toEqual([`\r\u001b[K${shown}`]);
  });

  it('writes plain lines elsewhere, not more than one a second, and the last one always', () => {
    const written: string[] = [];
    let nowMs = 0;
    const line = new ProgressLine({ write: (text) => written.push(text) }, () => nowMs);
    for (let n = 0; n < 20; n++) {
      line.show({ ...record, percent: n });
      nowMs += 100;
    }
    line.show({ ...record, percent: 100, status: 'done', done: true });
    expect(written.map((text) => /(\d+) %/.exec(text)![1])).toEqual(['0', '10', '100']);
  });
});
