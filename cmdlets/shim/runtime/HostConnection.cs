// One framed connection: 4-byte little-endian length, then UTF-8 JSON. Reads block the caller; Close from any thread frees it.
using System;
using System.Buffers;
using System.Buffers.Binary;
using System.IO;
using System.Management.Automation;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text.Json;
using System.Threading;

namespace VMStorage.PowerShell;

internal sealed class HostConnection : IDisposable
{
    /// <summary>Same as the host's limit (src/protocol/messages.ts).</summary>
    private const int MaxFrame = 64 << 20;
    private readonly Stream _stream;
    private readonly Lock _writing = new();
    private byte[] _in = new byte[16 * 1024];
    private int _closed;

    private HostConnection(Stream stream) => _stream = stream;

    public bool IsClosed => Volatile.Read(ref _closed) != 0;

    /// <summary>Who may not use the socket of the administrators may have one of his own beside it (src/host/doors.ts).</summary>
    public static HostConnection Open(string path)
    {
        try { return OpenAt(path); }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.AccessDenied && ReaderSocket(path) is { } beside)
        {
            try { return OpenAt(beside); }
            catch (SocketException) { throw e; }
        }
    }

    private static string? ReaderSocket(string path) =>
        path.EndsWith("/host.sock", StringComparison.Ordinal) ? path[..^"host.sock".Length] + "host-read.sock" : null;

    private static HostConnection OpenAt(string path)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            socket.Connect(new UnixDomainSocketEndPoint(path));
            ServerTrust.Check(socket, path);
            return new HostConnection(new NetworkStream(socket, ownsSocket: true));
        }
        catch { socket.Dispose(); throw; }
    }

    /// <summary>The same, giving up after the budget, which also bounds every later read.</summary>
    public static HostConnection? TryOpen(string path, int budgetMs)
    {
        try { return TryOpenAt(path, budgetMs); }
        catch (AggregateException e) when (e.InnerException is SocketException { SocketErrorCode: SocketError.AccessDenied } && ReaderSocket(path) is { } beside)
        {
            return TryOpenAt(beside, budgetMs);
        }
    }

    private static HostConnection? TryOpenAt(string path, int budgetMs)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            if (!socket.ConnectAsync(new UnixDomainSocketEndPoint(path)).Wait(budgetMs)) { socket.Dispose(); return null; }
            ServerTrust.Check(socket, path);
            socket.ReceiveTimeout = budgetMs; socket.SendTimeout = budgetMs;
            return new HostConnection(new NetworkStream(socket, ownsSocket: true));
        }
        catch { socket.Dispose(); throw; }
    }

    /// <summary>Builds frames apart from sending them: a body that fails sends nothing.</summary>
    public static ReadOnlyMemory<byte> Encode(params ReadOnlySpan<Action<Utf8JsonWriter>> bodies)
    {
        var output = new ArrayBufferWriter<byte>(1024);
        foreach (Action<Utf8JsonWriter> body in bodies)
        {
            int start = output.WrittenCount;
            output.GetSpan(4); output.Advance(4);
            using (var json = new Utf8JsonWriter(output)) { json.WriteStartObject(); body(json); json.WriteEndObject(); }
            int length = output.WrittenCount - start - 4;
            if (length > MaxFrame)
            {
                throw new HostFailure("InvalidParameter", ErrorCategory.InvalidArgument, $"The arguments make a request of {length} bytes; the host accepts {MaxFrame}. Give fewer at once.");
            }
            // the buffer may have moved while it grew: the length goes in through the present one
            BinaryPrimitives.WriteInt32LittleEndian(MemoryMarshal.AsMemory(output.WrittenMemory).Span.Slice(start, 4), length);
        }
        return output.WrittenMemory;
    }

    /// <summary>Writes encoded frames at once. Any thread.</summary>
    public void Send(ReadOnlyMemory<byte> frames) { lock (_writing) { _stream.Write(frames.Span); _stream.Flush(); } }

    public void Send(params ReadOnlySpan<Action<Utf8JsonWriter>> bodies) => Send(Encode(bodies));

    /// <summary>Next message, or null when the other side closed. The document is only valid until the next Read.</summary>
    public JsonDocument? Read()
    {
        if (!Fill(_in.AsSpan(0, 4))) { return null; }
        int length = BinaryPrimitives.ReadInt32LittleEndian(_in);
        if (length is <= 0 or > MaxFrame) { throw new InvalidDataException($"The host sent a frame of {length} bytes; the limit is {MaxFrame}."); }
        byte[] buffer = length <= _in.Length ? _in : new byte[length];
        if (!Fill(buffer.AsSpan(0, length))) { return null; }
        return JsonDocument.Parse(buffer.AsMemory(0, length));
    }

    private bool Fill(Span<byte> target)
    {
        while (target.Length > 0)
        {
            int n = _stream.Read(target);
            if (n == 0) { return false; }
            target = target[n..];
        }
        return true;
    }

    public void Close() { if (Interlocked.Exchange(ref _closed, 1) == 0) { _stream.Dispose(); } }
    public void Dispose() => Close();
}
