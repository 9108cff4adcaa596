// Where the host listens, and starting it when nobody does.
//
//   VMSTORAGE_HOST   a socket, as it is                         (never started by us: we would not know which home it belongs to)
//   VMSTORAGE_HOME   host.sock in that folder
//   otherwise        /run/vmstorage/host.sock
using System;
using System.Diagnostics;
using System.IO;
using System.Management.Automation;
using System.Net.Sockets;
using System.Text;

namespace VMStorage.PowerShell;

internal static class HostAddress
{
    /// <summary>Bytes of sun_path without its final zero; the runtime would say "out of range" without naming the path.</summary>
    private const int MaxSocketPath = 107;
    /// <summary>`vmstorage host start` itself waits up to 15 s for its answer.</summary>
    private const int StartPatienceMs = 20_000;

    private static string? Variable(string name) => Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? value : null;

    public static string Current => Variable("VMSTORAGE_HOST") ?? (Variable("VMSTORAGE_HOME") is { } home ? Path.Combine(home, "host.sock") : "/run/vmstorage/host.sock");

    /// <summary>Connects; starts the host first when it is not there and may be started. Fails with a record that says what to do.</summary>
    public static HostConnection Connect()
    {
        string address = Current;
        if (Encoding.UTF8.GetByteCount(address) > MaxSocketPath)
        {
            throw new HostFailure("HostNotReachable", ErrorCategory.ConnectionError,
                $"The socket of the VM storage host, '{address}', has a path longer than {MaxSocketPath} bytes, which no socket can have. Use a shorter VMSTORAGE_HOME or VMSTORAGE_HOST.", address);
        }
        try { return HostConnection.Open(address); }
        catch (SocketException e) when (e.SocketErrorCode is SocketError.AddressNotAvailable or SocketError.ConnectionRefused)
        {
            string? tried = TryStart();
            if (tried is null)
            {
                try { return HostConnection.Open(address); }
                catch (Exception again) when (IsConnectFailure(again)) { throw Failure(address, again, "It was started, but does not answer there."); }
            }
            throw Failure(address, e, tried);
        }
        catch (Exception e) when (IsConnectFailure(e)) { throw Failure(address, e, ""); }
    }

    private static bool IsConnectFailure(Exception e) => e is SocketException or IOException or UnauthorizedAccessException or ArgumentException;

    private static HostFailure Failure(string address, Exception e, string tried)
    {
        if (e is UnauthorizedAccessException or SocketException { SocketErrorCode: SocketError.AccessDenied })
        {
            return new HostFailure("AccessDenied", ErrorCategory.PermissionDenied,
                $"You do not have the required permission to use the VM storage host at '{address}'. Root and the user it belongs to have it, and members of its groups: " +
                "'vmstorage' for administrators, 'vmstorage-readers' for those who look, unless VMSTORAGE_ADMINISTRATORS and VMSTORAGE_READERS of the host name others. " +
                "Who is added to one of them has it from the next login on.", address, e);
        }
        string why = e switch
        {
            SocketException { SocketErrorCode: SocketError.AddressNotAvailable } => "there is no such socket",     // ENOENT reads as "Cannot assign requested address"
            SocketException { SocketErrorCode: SocketError.ConnectionRefused } => "nobody listens there",
            _ => e.Message,
        };
        string extra = tried.Length > 0 ? " " + tried : "";
        return new HostFailure("HostNotReachable", ErrorCategory.ConnectionError,
            $"Cannot connect to the VM storage host at '{address}': {why}.{extra} Start it with 'vmstorage host start', or set VMSTORAGE_HOME to its folder or VMSTORAGE_HOST to its socket.", address, e);
    }

    /// <summary>Null when the host was started; otherwise why not, as a sentence (empty: it was not meant to be).</summary>
    private static string? TryStart()
    {
        if (Variable("VMSTORAGE_NOSTART") is not null || Variable("VMSTORAGE_HOST") is not null) { return ""; }
        string? cli = Variable("VMSTORAGE_CLI") ?? OnPath("vmstorage");
        if (cli is null) { return ""; }
        bool script = cli.EndsWith(".js", StringComparison.Ordinal) || cli.EndsWith(".mjs", StringComparison.Ordinal);
        var start = new ProcessStartInfo(script ? "node" : cli) { UseShellExecute = false, RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        if (script) { start.ArgumentList.Add(cli); }
        start.ArgumentList.Add("host"); start.ArgumentList.Add("start");
        try
        {
            var errors = new StringBuilder();
            using Process process = Process.Start(start)!;
            process.ErrorDataReceived += (_, line) => { lock (errors) { if (errors.Length < 2000) { errors.Append(line.Data).Append(' '); } } };
            process.OutputDataReceived += (_, _) => { };
            process.BeginErrorReadLine(); process.BeginOutputReadLine();
            process.StandardInput.Close();
            if (!process.WaitForExit(StartPatienceMs)) { process.Kill(); return $"'{cli} host start' did not end within {StartPatienceMs / 1000} s."; }
            if (process.ExitCode == 0) { return null; }
            lock (errors) { return $"'{cli} host start' failed: {errors.ToString().Trim()}"; }
        }
        catch (Exception e) when (e is System.ComponentModel.Win32Exception or InvalidOperationException or IOException) { return $"'{cli} host start' could not be run: {e.Message}."; }
    }

    private static string? OnPath(string name)
    {
        foreach (string folder in (Variable("PATH") ?? "").Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries))
        {
            string candidate = Path.Combine(folder, name);
            if (File.Exists(candidate)) { return candidate; }
        }
        return null;
    }
}
