/** What every cmdlet passes before its handler (src/host/methods/gate.ts), for every cmdlet and parameter there is. */
import { readdir } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { cmdlets, type Cmdlet, type Parameter } from '../../../cmdlets/index.js';
import { gated } from '../../../src/host/methods/gate.js';
import type { CmdletContext, CmdletHandler } from '../../../src/host/services.js';
import type { WireValue } from '../../../src/protocol/messages.js';
import { nameOrList } from '../../../src/protocol/name-or-list.js';
import { makeStage, type Stage } from './stage.js';

const all = Object.values(cmdlets) as unknown as readonly Cmdlet[];
const parametersOf = (fits: (parameter: Parameter) => boolean): [Cmdlet, string, Parameter][] =>
  all.flatMap((cmdlet) =>
    Object.entries(cmdlet.parameters).flatMap(([name, parameter]): [Cmdlet, string, Parameter][] =>
      fits(parameter) ? [[cmdlet, name, parameter]] : [],
    ),
  );

let stage: Stage;
let reached: { readonly [name: string]: WireValue } | null;
beforeEach(async () => {
  stage = await makeStage();
  reached = null;
});
afterEach(() => stage.end());

/** Through the gate, to a handler that only remembers what it got. */
async function pass(cmdlet: Cmdlet, bound: { [name: string]: WireValue }): Promise<void> {
  const handler: CmdletHandler = (context) => Promise.resolve(void (reached = context.bound));
  await gated({ [cmdlet.name]: handler }, stage.services.registry)[cmdlet.name]!({
    cmdlet: cmdlet.name,
    bound,
  } as unknown as CmdletContext);
}

const windowsPaths = [
  'D:\\vms\\a.vhdx',
  'd:/vms/a.vhdx',
  'D:',
  'D:a.vhdx',
  '\\\\server\\share\\a.vhdx',
  '//server/share/a.vhdx',
  '\\vms\\a.vhdx',
  '/vms\\a.vhdx',
];
const takesPath = ({ type, notImplemented }: Parameter): boolean =>
  !notImplemented && (type.kind === 'path' || (type.pathKeys?.length ?? 0) > 0);

describe('a Windows path', () => {
  it.each(parametersOf(takesPath).map(([cmdlet, name, parameter]) => [`${cmdlet.name} -${name}`, cmdlet, name, parameter] as const))(
    '%s refuses it, in whatever spelling, with one text',
    async (_, cmdlet, name, { type }) => {
      for (const text of windowsPaths) {
        const shapes: [WireValue, string][] =
          type.kind === 'path'
            ? [[type.array ? ['/srv/fine.img', text] : text, `-${name}`]]
            : type.pathKeys!.map((key) => [[{ [key.toLowerCase()]: text }], `-${name} ${key.toLowerCase()}`]);
        for (const [value, what] of shapes) {
          await expect(pass(cmdlet, { [name]: value })).rejects.toMatchObject({
            code: 'NotImplemented',
            target: text,
            message: `${what} '${text}' is a Windows path. Drives and shares are not mapped to folders yet; give the path as this host names it, such as /srv/disks/web01.vhdx. Nothing was changed.`,
          });
        }
      }
      expect(reached).toBeNull();
    },
  );

  it('makes no file of that name', async () => {
    const { errors } = await stage.run(
      'New-VM',
      { Name: 'a', NewVHDPath: 'D:\\a.vhdx', NewVHDSizeBytes: String(2 ** 30) },
      { parameterSet: 'New VHD' },
    );
    expect(errors).toMatchObject([{ code: 'NotImplemented', target: 'D:\\a.vhdx' }]);
    expect(stage.services.registry.list()).toEqual([]);
    expect(await readdir(stage.folder)).toEqual(['home']);
  });

  it.each(['/srv/a.vhdx', 'a.vhdx', '/srv/a:b.img', '/', '///srv'])('%s is none', async (text) => {
    await pass(cmdlets['New-VHD'] as unknown as Cmdlet, { Path: [text] });
    expect(reached).toEqual({ Path: [text] });
  });
});

describe('a parameter that is not implemented', () => {
  it.each(
    parametersOf(({ inForce }) => inForce.length > 0).map(
      ([cmdlet, name, parameter]) => [`${cmdlet.name} -${name}`, cmdlet, name, parameter] as const,
    ),
  )('%s accepts what is in force already, and nothing else', async (_, cmdlet, name, { inForce, type }) => {
    for (const value of inForce) {
      await pass(cmdlet, { [name]: value });
      expect(reached).toEqual({ [name]: value });
    }
    if (type.kind === 'switch') return;
    const other = type.enumType
      ? Object.keys(type.enumType.values).find((one) => !inForce.includes(one))!
      : type.kind === 'bool'
        ? !inForce[0]
        : '7';
    await expect(pass(cmdlet, { [name]: other })).rejects.toMatchObject({
      code: 'NotImplemented',
      message: `${cmdlet.name} -${name} '${String(other)}' is not implemented: it is always ${inForce.join(' or ')}. Nothing was changed; leave the parameter out.`,
    });
  });

  it('says by a machine what it says by its definition: runbooks turn off what is off', async () => {
    await stage.run('New-VM', { Name: 'web01', Path: stage.folder });
    const bound = { Name: ['web01'], AutomaticCheckpointsEnabled: false, CheckpointType: 'Disabled', StaticMemory: true };
    expect((await stage.run('Set-VM', bound)).errors).toEqual([]);
    expect((await stage.run('Set-VM', { ...bound, CheckpointType: 'Standard', Notes: 'no' })).errors).toMatchObject([
      { code: 'NotImplemented' },
    ]);
    expect((await stage.run('Set-VMHost', { NumaSpanningEnabled: true, EnableEnhancedSessionMode: false })).errors).toEqual([]);
    expect((await stage.run('Get-VM')).output[0]).not.toMatchObject({ Notes: 'no' });
  });
});

describe('a name that may be a list', () => {
  const start = cmdlets['Start-VM'] as unknown as Cmdlet;

  it('is the machine of that name where there is one, in any case, and a list otherwise', async () => {
    await pass(start, { Name: [nameOrList('a,b', ['a', 'b']), 'c'] });
    expect(reached).toEqual({ Name: ['a', 'b', 'c'] });
    await stage.run('New-VM', { Name: 'A,b', Path: stage.folder });
    await pass(start, { Name: [nameOrList('a,B', ['a', 'B']), nameOrList('c,d', ['c', 'd'])] });
    expect(reached).toEqual({ Name: ['a,B', 'c', 'd'] });
  });

  it('starts the machine "a,b" and not a and b', async () => {
    for (const Name of ['a', 'b', 'a,b']) await stage.run('New-VM', { Name, Path: stage.folder });
    stage.calls.length = 0;
    await stage.run('Start-VM', { Name: [nameOrList('a,b', ['a', 'b'])] });
    expect(stage.calls).toEqual(['start a,b']);
  });
});
