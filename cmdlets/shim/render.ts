/** Everything the module is made of, as text by file name. Pure: the same definitions give the same bytes. */
import type { AnyObjectType, Cmdlet, EnumType } from '../define.js';
import { renderCmdlet } from './csharp-cmdlet.js';
import { renderDefinitions, renderEnums, renderObject } from './csharp-object.js';
import { renderAbout, renderHelp } from './help.js';
import { assemblyName, renderHyperVManifest, renderVMStorageManifest } from './manifest.js';
import { renderFormat, renderTypes } from './views.js';

export interface ShimInput {
  readonly cmdlets: readonly Cmdlet[];
  readonly objectTypes: readonly AnyObjectType[];
  readonly enums: readonly EnumType[];
  readonly moduleVersion: string;
  readonly protocolVersion: number;
  readonly hash: string;
}

export interface RenderedShim {
  /** Sources to compile beside the hand-written runtime. */
  readonly sources: ReadonlyMap<string, string>;
  /** Files of the package, under the folder of modules. */
  readonly files: ReadonlyMap<string, string>;
}

export function renderShim(input: ShimInput): RenderedShim {
  const facts = { protocolVersion: input.protocolVersion, moduleVersion: input.moduleVersion, hash: input.hash };
  return {
    sources: new Map([
      ['Definitions.g.cs', renderDefinitions(input.objectTypes, facts)],
      ['Enums.g.cs', renderEnums(input.enums)],
      ...input.objectTypes.map((type): [string, string] => [`${type.name}.g.cs`, renderObject(type)]),
      ...input.cmdlets.map((cmdlet): [string, string] => [`${cmdlet.className}.g.cs`, renderCmdlet(cmdlet)]),
    ]),
    files: new Map([
      ['VMStorage/VMStorage.psd1', renderVMStorageManifest(input.cmdlets, input.moduleVersion)],
      ['VMStorage/VMStorage.format.ps1xml', renderFormat(input.objectTypes)],
      ['VMStorage/VMStorage.types.ps1xml', renderTypes(input.objectTypes)],
      [`VMStorage/en-US/${assemblyName}.dll-Help.xml`, renderHelp(input.cmdlets)],
      ['VMStorage/en-US/about_VMStorage.help.txt', renderAbout(input.cmdlets)],
      ['Hyper-V/Hyper-V.psd1', renderHyperVManifest(input.cmdlets)],
    ]),
  };
}
