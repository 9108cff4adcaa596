// Whom the module speaks to; src/client/server-trust.ts has the same rule. Anybody may put a socket where a variable or a habit leads; the
// kernel says whose process listens there.
using System;
using System.Management.Automation;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;

namespace VMStorage.PowerShell;

internal static class ServerTrust
{
    // Linux: <asm-generic/socket.h>
    private const int SolSocket = 1, SoPeerCred = 17, SoPeerGroups = 59;
    /// <summary>NGROUPS_MAX: no process has more.</summary>
    private const int MaxGroups = 65_536;
    /// <summary>An entry of the group database holds the names of all members.</summary>
    private const int MaxEntry = 4 << 20;
    private const int Erange = 34;

    [DllImport("libc", EntryPoint = "geteuid")]
    private static extern uint GetEuid();

    [DllImport("libc", EntryPoint = "getgrnam_r")]
    private static extern int GetGrNam(byte[] name, out GroupEntry entry, byte[] buffer, nint length, out IntPtr result);

    [StructLayout(LayoutKind.Sequential)]
    private struct GroupEntry { public IntPtr Name, Password; public uint Gid; public IntPtr Members; }

    /// <summary>Throws unless the process that listens is root's, our own user's, or of one who may administer virtual machines anyway.</summary>
    public static void Check(Socket socket, string address)
    {
        Span<int> credentials = stackalloc int[3];                         // struct ucred: pid, uid, gid
        socket.GetRawSocketOption(SolSocket, SoPeerCred, MemoryMarshal.AsBytes(credentials));
        uint uid = (uint)credentials[1], gid = (uint)credentials[2];
        if (uid == 0 || uid == GetEuid()) { return; }
        string? name = AdministratorsGroup();
        uint? group = name is null ? null : GroupId(name);
        if (group is { } wanted && (gid == wanted || Array.IndexOf(PeerGroups(socket), wanted) >= 0)) { return; }
        throw new HostFailure("AccessDenied", ErrorCategory.PermissionDenied,
            $"The VM storage host at '{address}' is a process ({credentials[0]}) of user {uid}, to whom nothing is told: it is neither root's nor yours" +
            (group is null ? "" : $", nor of the group '{name}'") + ". Check VMSTORAGE_HOST and VMSTORAGE_HOME; VMSTORAGE_ADMINISTRATORS names the group of administrators where it has another name.", address);
    }

    /// <summary>As src/model/roles.ts has it: a variable that is set and empty says that there is none.</summary>
    private static string? AdministratorsGroup()
    {
        if (Environment.GetEnvironmentVariable("VMSTORAGE_ADMINISTRATORS") is { } named) { return named.Length == 0 ? null : named; }
        return string.IsNullOrEmpty(Environment.GetEnvironmentVariable("VMSTORAGE_HOME")) ? "vmstorage" : null;
    }

    private static uint[] PeerGroups(Socket socket)
    {
        var groups = new uint[MaxGroups];
        int bytes = socket.GetRawSocketOption(SolSocket, SoPeerGroups, MemoryMarshal.AsBytes(groups.AsSpan()));
        return groups[..(bytes / sizeof(uint))];
    }

    private static uint? GroupId(string name)
    {
        byte[] text = Encoding.UTF8.GetBytes(name + "\0");
        for (var buffer = new byte[16 * 1024]; buffer.Length <= MaxEntry; buffer = new byte[buffer.Length * 2])
        {
            int code = GetGrNam(text, out GroupEntry entry, buffer, buffer.Length, out IntPtr found);
            if (code != Erange) { return code == 0 && found != IntPtr.Zero ? entry.Gid : null; }
        }
        return null;
    }
}
