/** What a host says of things that others named reaches a terminal only as text, by the command and by the cmdlets. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { PwshSession } from '../../src/powershell/session.js';
import { visibleLine } from '../../src/model/visible.js';
import { repository } from '../support/guest-kernel.js';
import { drive, host, move, vhd, vm } from '../support/objects.js';
import { moduleEnvironment, pwshOrUndefined } from '../support/pwsh.js';
import { requires } from '../support/requires.js';
import { ScriptedHost } from '../support/scripted-host.js';

vi.setConfig({ testTimeout: 90_000 });

/** Erases the screen, sets the title, asks for a report that is typed in; C1; turns the direction; hides. */
const NASTY = 'web\u001b[2J\u001b]0;owned\u0007\u009b6n\u007f\u202egpj.exe\u2066\u200b\u{e0041}01';
const FORGED = `${NASTY}\nWARNING: all is well`;
// eslint-disable-next-line no-control-regex
const OBEYED = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200b\u202e\u2066\u{e0041}]/u;

const says = (): Promise<ScriptedHost> =>
  ScriptedHost.listen({
    'Get-VM': async (call) => {
      await call.progress({ id: 1, activity: FORGED, status: FORGED, percent: 5 });
      for (const kind of ['warning', 'information', 'verbose'] as const) await call.text(kind, FORGED);
      await call.error({ message: FORGED, target: NASTY, recommendedAction: FORGED });
      await call.output(vm({ Name: NASTY, Status: FORGED, Notes: FORGED, Path: NASTY }));
      await call.output(drive({ Path: FORGED }));
      await call.output(vhd({ Path: FORGED }));
      await call.output(move({ VMName: NASTY, Message: FORGED, Source: [FORGED], Destination: [NASTY] }));
      await call.output(host({ VirtualMachinePath: FORGED }));
    },
  });

describe('a host that says what a terminal would obey', () => {
  it.each([[[]], [['-Verbose']], [['--json']]])('is told as text by the command: Get-VM %j', async (words) => {
    await using scripted = await says();
    const environment = { ...process.env, ...scripted.environment };
    const output = await new Promise<string>((resolve) => {
      execFile(process.execPath, [join(repository, 'dist/src/cli/main.js'), 'Get-VM', ...words], { env: environment }, (_, out, err) =>
        resolve(out + err),
      );
    });
    expect(JSON.stringify(OBEYED.exec(output))).toBe('null');
    expect(output).not.toMatch(/^WARNING: all is well/m);
    expect(output).toContain(words[0] === '--json' ? '\\u202e' : visibleLine(NASTY));
  });

  const pwsh = requires('pwsh', process.env['VMSTORAGE_PWSH'] ?? true);
  it.skipIf(!pwsh)('is told as text by the cmdlets, in messages and in their views', async () => {
    const found = await pwshOrUndefined();
    if (!requires('pwsh', found, 'there is no PowerShell 7.6')) return;
    await using scripted = await says();
    await using session = await PwshSession.start({ executable: found!.path, environment: await moduleEnvironment(scripted) });
    const { output, errors, warnings, verbose, information } = await session.invoke<string>(
      `@(Get-VM -Verbose 2>&1) | ForEach-Object { $_ | Out-String -Width 400 }`,
    );
    const said = [...output, ...errors.map(({ message, target }) => `${message}${target}`), ...warnings, ...verbose, ...information];
    // PowerShell colours nothing for NO_COLOR. What Format-List and Select-Object make of a property is theirs.
    const shown = said.join('\n');
    expect(shown).toContain(visibleLine(NASTY));
    expect(JSON.stringify(OBEYED.exec(shown))).toBe('null');
    expect(shown).not.toMatch(/^WARNING: all is well/m);
  });
});
