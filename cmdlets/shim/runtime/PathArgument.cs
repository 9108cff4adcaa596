// A path parameter as the host gets it. The host's working folder is not the user's, so the shell makes it absolute; spellings with a drive
// letter or two leading slashes are sent as they are, because only the host knows what they are mapped to.
using System;
using System.Management.Automation;

namespace VMStorage.PowerShell;

internal static class PathArgument
{
    public static string Resolve(PSCmdlet cmdlet, string text, string parameter)
    {
        if (IsWindowsSpelling(text)) { return text; }
        string full = cmdlet.SessionState.Path.GetUnresolvedProviderPathFromPSPath(text, out ProviderInfo provider, out _);
        if (!provider.Name.Equals("FileSystem", StringComparison.OrdinalIgnoreCase))
        {
            throw new HostFailure("InvalidParameter", ErrorCategory.InvalidArgument, $"-{parameter} '{text}' is not in the file system but in {provider.Name}. Give a file system path.", text);
        }
        return full;
    }

    private static bool IsWindowsSpelling(string text)
    {
        if (text.Length < 2) { return false; }
        if (text[0] is '\\' or '/') { return text[1] is '\\' or '/'; }
        return char.IsAsciiLetter(text[0]) && text[1] == ':' && (text.Length == 2 || text[2] is '\\' or '/');
    }
}
