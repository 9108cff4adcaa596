/** The rendered module, as text to review. A change of these files is a change of what users load. */
import { describe, expect, it } from 'vitest';
import { definitionsHash } from '../../../cmdlets/hash.js';
import { csharpText, powershellText, xmlText } from '../../../cmdlets/shim/quote.js';
import { refuseNotImplemented } from '../../../cmdlets/refuse.js';
import { findCmdlet } from '../../../cmdlets/index.js';
import { renderModule } from '../../../scripts/build-shim.js';

const rendered = await renderModule();

describe('the rendered module', () => {
  it.each(['MoveVMStorage.g.cs', 'NewVhd.g.cs', 'HardDiskDrive.g.cs'])('%s', async (name) => {
    await expect(rendered.sources.get(name)).toMatchFileSnapshot(`../../golden/shim/${name}.txt`);
  });

  it.each([
    'VMStorage/VMStorage.psd1',
    'VMStorage/VMStorage.format.ps1xml',
    'VMStorage/VMStorage.types.ps1xml',
    'Hyper-V/Hyper-V.psd1',
    'VMStorage/en-US/about_VMStorage.help.txt',
  ])('%s', async (name) => {
    await expect(rendered.files.get(name)).toMatchFileSnapshot(`../../golden/shim/${name.split('/').at(-1)}`);
  });

  it('is the same twice', async () => {
    expect([...(await renderModule()).sources]).toEqual([...rendered.sources]);
    expect(definitionsHash()).toMatch(/^sha256:[0-9a-f]{64}$/);
  });
});

describe('escaping', () => {
  it('C#', () => expect(csharpText('a"b\\c\nd\u2028é')).toBe('"a\\"b\\\\c\\u000ad\\u2028\\u00e9"'));
  it('PowerShell, typographic quotes too', () => expect(powershellText("a'b‘c’d‚e‛")).toBe("'a''b‘‘c’’d‚‚e‛‛'"));
  it('XML', () => expect(xmlText('<a b="c">&\'\u0001')).toBe('&lt;a b=&quot;c&quot;&gt;&amp;&apos;'));
});

describe('what is refused before a cmdlet does anything', () => {
  const stop = findCmdlet('Stop-VM')!;
  it('a parameter that is not implemented', () =>
    expect(() => refuseNotImplemented(stop, { Save: true })).toThrow('Stop-VM -Save is not implemented'));
  it('a parameter that does not exist', () => expect(() => refuseNotImplemented(stop, { __proto__x: true })).toThrow('has no parameter'));
  it('not a switch given as false, and not what is implemented', () =>
    expect(() => refuseNotImplemented(stop, { Save: false, TurnOff: true })).not.toThrow());
  it('a name is found only as itself', () =>
    expect([findCmdlet('__proto__'), findCmdlet('toString'), findCmdlet('get-vm')]).toEqual([undefined, undefined, undefined]));
});
