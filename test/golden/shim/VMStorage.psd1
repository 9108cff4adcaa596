# Generated from cmdlets; do not edit.
@{
    RootModule           = 'VMStorage.PowerShell.dll'
    ModuleVersion        = '0.1.0'
    GUID                 = '6c1b5a0e-3f0e-4b0b-9a66-4d0f6c0c3b52'
    Author               = 'The vmstorage authors'
    Description          = 'Moves the storage of a running virtual machine on Linux with the cmdlets of Hyper-V.'
    CompatiblePSEditions = @('Core')
    PowerShellVersion    = '7.6'
    CmdletsToExport      = @('Add-VMHardDiskDrive', 'Get-VHD', 'Get-VM', 'Get-VMHardDiskDrive', 'Get-VMHost', 'Get-VMStorageMove', 'Import-VM', 'Move-VMStorage', 'New-VHD', 'New-VM', 'Remove-VM', 'Remove-VMHardDiskDrive', 'Resolve-VMStorageMove', 'Set-VM', 'Set-VMHost', 'Start-VM', 'Stop-VM', 'Stop-VMStorageMove')
    FunctionsToExport    = @()
    AliasesToExport      = @()
    VariablesToExport    = @()
    FormatsToProcess     = @('VMStorage.format.ps1xml')
    TypesToProcess       = @('VMStorage.types.ps1xml')
    FileList             = @('VMStorage.PowerShell.dll', 'VMStorage.format.ps1xml', 'VMStorage.types.ps1xml', 'en-US/VMStorage.PowerShell.dll-Help.xml', 'en-US/about_VMStorage.help.txt')
    PrivateData          = @{ PSData = @{ Tags = @('PSEdition_Core', 'Linux', 'HyperV', 'Virtualization', 'Storage') } }
}
