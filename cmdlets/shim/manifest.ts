/** The two manifests: VMStorage over the DLL, and Hyper-V over VMStorage, so that either name works, alone or both, in any order. */
import type { Cmdlet } from '../define.js';
import { powershellText } from './quote.js';

export const assemblyName = 'VMStorage.PowerShell';

/** A version nobody has is no version: PowerShell's own floor is where PipelineStopToken and the present binder begin. */
const powershellVersion = '7.6';

function list(values: readonly string[]): string {
  return `@(${values.map(powershellText).join(', ')})`;
}

export function renderVMStorageManifest(cmdlets: readonly Cmdlet[], version: string): string {
  return `# Generated from cmdlets; do not edit.
@{
    RootModule           = '${assemblyName}.dll'
    ModuleVersion        = ${powershellText(version)}
    GUID                 = '6c1b5a0e-3f0e-4b0b-9a66-4d0f6c0c3b52'
    Author               = 'The vmstorage authors'
    Description          = 'Moves the storage of a running virtual machine on Linux with the cmdlets of Hyper-V.'
    CompatiblePSEditions = @('Core')
    PowerShellVersion    = ${powershellText(powershellVersion)}
    CmdletsToExport      = ${list(cmdlets.map((cmdlet) => cmdlet.name))}
    FunctionsToExport    = @()
    AliasesToExport      = @()
    VariablesToExport    = @()
    FormatsToProcess     = @('VMStorage.format.ps1xml')
    TypesToProcess       = @('VMStorage.types.ps1xml')
    FileList             = @('${assemblyName}.dll', 'VMStorage.format.ps1xml', 'VMStorage.types.ps1xml', 'en-US/${assemblyName}.dll-Help.xml', 'en-US/about_VMStorage.help.txt')
    PrivateData          = @{ PSData = @{ Tags = @('PSEdition_Core', 'Linux', 'HyperV', 'Virtualization', 'Storage') } }
}
`;
}

export function renderHyperVManifest(cmdlets: readonly Cmdlet[]): string {
  return `# Generated from cmdlets; do not edit.
@{
    NestedModules        = @('../VMStorage/VMStorage.psd1')
    ModuleVersion        = '2.0.0.0'
    GUID                 = 'b3c4a1f7-1f2d-4b57-8f7f-0a1c2f6f5d10'
    Author               = 'The vmstorage authors'
    Description          = 'The name of the Hyper-V module over VMStorage.'
    CompatiblePSEditions = @('Core')
    PowerShellVersion    = ${powershellText(powershellVersion)}
    CmdletsToExport      = ${list(cmdlets.map((cmdlet) => cmdlet.name))}
    FunctionsToExport    = @()
    AliasesToExport      = @()
    VariablesToExport    = @()
}
`;
}
