// A path parameter as the host gets it. The host's working folder is not the user's, so the shell makes it absolute. Spellings with two
// leading slashes, or with the letter of a drive that the session does not have, are sent as they are: the host says what is wrong with them.
using System;
using System.Linq;
using System.Management.Automation;

namespace VMStorage.PowerShell;

internal static class PathArgument
{
    public static string Resolve(PSCmdlet cmdlet, string text, string parameter)
    {
        if (string.IsNullOrWhiteSpace(text))
        {
            throw new HostFailure("InvalidParameter", ErrorCategory.InvalidArgument, $"-{parameter} must be a path; it is blank.", text) { OfOneRecord = true };      // else a folder of that name
        }
        if (IsWindowsSpelling(text) && !IsDriveOfSession(cmdlet, text)) { return text; }
        string full;
        ProviderInfo provider;
        try { full = cmdlet.SessionState.Path.GetUnresolvedProviderPathFromPSPath(text, out provider, out _); }
        catch (SessionStateException e) { throw new HostFailure(e.ErrorRecord) { OfOneRecord = true }; }      // no such drive, no such provider
        if (!provider.Name.Equals("FileSystem", StringComparison.OrdinalIgnoreCase))
        {
            throw new HostFailure("InvalidParameter", ErrorCategory.InvalidArgument, $"-{parameter} '{text}' is not in the file system but in {provider.Name}. Give a file system path.", text) { OfOneRecord = true };
        }
        return full;
    }

    public static bool IsFileName(string text) => !string.IsNullOrWhiteSpace(text) && text[0] != '~' && text is not ("." or "..") && text.IndexOfAny(['/', '\\', ':']) < 0;

    /// <summary>New-PSDrive V: the same V:x means without a slash and as the current location.</summary>
    private static bool IsDriveOfSession(PSCmdlet cmdlet, string text) =>
        text[1] == ':' && cmdlet.SessionState.Drive.GetAll().Any(drive => drive.Name.Equals(text[..1], StringComparison.OrdinalIgnoreCase));

    private static bool IsWindowsSpelling(string text)
    {
        if (text.Length < 2) { return false; }
        if (text[0] is '\\' or '/') { return text[1] is '\\' or '/'; }
        return char.IsAsciiLetter(text[0]) && text[1] == ':';
    }
}
