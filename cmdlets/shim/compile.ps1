# Compiles the module with the Roslyn inside PowerShell: fixed assembly name, deterministic, warnings are errors, chosen references.
# -Reference: the framework's reference assemblies and one System.Management.Automation. Paths are absolute: .NET's folder is not $PWD.
param([string]$Source, [string]$Out, [string]$ReferenceList)
$ErrorActionPreference = 'Stop'
Add-Type -AssemblyName Microsoft.CodeAnalysis, Microsoft.CodeAnalysis.CSharp
$options = [Microsoft.CodeAnalysis.CSharp.CSharpParseOptions]::Default.WithLanguageVersion('Latest')
$utf8 = [Text.UTF8Encoding]::new($false)
$files = [IO.Directory]::GetFiles($Source, '*.cs', 'AllDirectories')
[Array]::Sort($files, [StringComparer]::Ordinal)
$trees = foreach ($file in $files) {
    [Microsoft.CodeAnalysis.CSharp.CSharpSyntaxTree]::ParseText([IO.File]::ReadAllText($file), $options, [IO.Path]::GetFileName($file), $utf8, [Threading.CancellationToken]::None)
}
$references = [IO.File]::ReadAllLines($ReferenceList).Where{ $_ }.ForEach{ [Microsoft.CodeAnalysis.MetadataReference]::CreateFromFile($_) }
$settings = [Microsoft.CodeAnalysis.CSharp.CSharpCompilationOptions]::new('DynamicallyLinkedLibrary').WithOptimizationLevel('Release').WithDeterministic($true).WithGeneralDiagnosticOption('Error').WithNullableContextOptions('Enable')
$compilation = [Microsoft.CodeAnalysis.CSharp.CSharpCompilation]::Create('VMStorage.PowerShell', [Microsoft.CodeAnalysis.SyntaxTree[]]$trees, [Microsoft.CodeAnalysis.MetadataReference[]]$references, $settings)
$stream = [IO.File]::Create($Out)
try { $result = $compilation.Emit($stream) } finally { $stream.Dispose() }
$result.Diagnostics.ForEach{ if ($_.Severity -ge 2) { [Console]::Error.WriteLine("$_") } }
if (-not $result.Success) { [IO.File]::Delete($Out); exit 1 }
$sma = @($compilation.ReferencedAssemblyNames).Where({ $_.Name -eq 'System.Management.Automation' }).Version
[Console]::Out.WriteLine("$sma")
