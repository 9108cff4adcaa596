# Generated from cmdlets; do not edit.
@{
    NestedModules        = @('../VMStorage/VMStorage.psd1')
    ModuleVersion        = '2.0.0.0'
    GUID                 = 'b3c4a1f7-1f2d-4b57-8f7f-0a1c2f6f5d10'
    Author               = 'The vmstorage authors'
    Description          = 'The name of the Hyper-V module over VMStorage.'
    CompatiblePSEditions = @('Core')
    PowerShellVersion    = '7.6'
    CmdletsToExport      = @('Add-VMHardDiskDrive', 'Get-VHD', 'Get-VM', 'Get-VMHardDiskDrive', 'Get-VMHost', 'Get-VMStorageMove', 'Import-VM', 'Move-VMStorage', 'New-VHD', 'New-VM', 'Remove-VM', 'Remove-VMHardDiskDrive', 'Resolve-VMStorageMove', 'Set-VM', 'Set-VMHost', 'Start-VM', 'Stop-VM', 'Stop-VMStorageMove')
    FunctionsToExport    = @()
    AliasesToExport      = @()
    VariablesToExport    = @()
}
