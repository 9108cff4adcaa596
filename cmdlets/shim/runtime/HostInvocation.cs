// One invocation of a cmdlet, over one connection. The pump runs on the caller's thread: the pipeline thread for a cmdlet, a background
// thread for a job. Two orders matter: after a read of 0 bytes ask IsClosed first (a stop looks like an end of file), and the reply to
// `ask` goes out before the invocation is handed to a job.
//
//   hello+begin ->  <- hello     process ->  <- output | error | progress | ask ...  <- processed     end ->  <- completed
//   RequestStop (any thread): `stop` goes out, the pump goes on until the host has answered, for at most StopPatience.
using System;
using System.IO;
using System.Management.Automation;
using System.Net.Sockets;
using System.Text.Json;
using System.Threading;

namespace VMStorage.PowerShell;

/// <summary>Where the records of an invocation go: the cmdlet that runs it, or the job that took it over.</summary>
internal interface IHostSink
{
    void Output(object value);
    void Error(ErrorRecord error);
    void Text(string stream, string text);
    void Progress(ProgressRecord progress);
    bool Ask(string kind, string text, string caption);
    /// <summary>True: the pump stops right after the reply, and somebody else goes on reading.</summary>
    bool DetachAfterConfirm { get; }
}

internal enum PumpEnd { Processed, Completed, Detached }

internal sealed class HostInvocation : IDisposable
{
    public const int StopPatienceMs = 10_000;
    private static int s_mixedVersionsSaid;
    private readonly HostConnection _connection;
    private readonly Lock _state = new();
    private int _seq;
    private bool _greeted, _busy, _stopRequested;
    private volatile bool _patienceOver;
    private Timer? _patience;

    private HostInvocation(HostConnection connection) => _connection = connection;

    /// <summary>Something was asked and not answered yet.</summary>
    public bool IsBusy { get { lock (_state) { return _busy; } } }
    public bool StopRequested { get { lock (_state) { return _stopRequested; } } }

    public static HostInvocation Start(string cmdlet, string cwd, bool verbose, bool debug, bool progress)
    {
        var invocation = new HostInvocation(HostAddress.Connect());
        invocation.Guard(() => invocation._connection.Send(
            j =>
            {
                j.WriteString("k", "hello"); j.WriteNumber("v", Definitions.ProtocolVersion); j.WriteNumber("pid", Environment.ProcessId);
                j.WriteString("client", "powershell"); j.WriteString("module", Definitions.ModuleVersion); j.WriteString("defs", Definitions.Hash);
            },
            j =>
            {
                j.WriteString("k", "begin"); j.WriteString("cmdlet", cmdlet); j.WriteString("cwd", cwd);
                j.WriteStartObject("prefs"); j.WriteBoolean("verbose", verbose); j.WriteBoolean("debug", debug); j.WriteBoolean("progress", progress); j.WriteEndObject();
            }));
        return invocation;
    }

    /// <summary>Sends one record. Before the first one the host has shown that it speaks our protocol: nothing is asked of another.</summary>
    public void SendProcess(IHostSink sink, string parameterSet, Action<Utf8JsonWriter> bound)
    {
        if (!_greeted) { Greet(sink); }
        Request(j =>
        {
            j.WriteString("k", "process"); j.WriteNumber("seq", ++_seq); j.WriteString("parameterSet", parameterSet);
            j.WriteStartObject("bound"); bound(j); j.WriteEndObject();
        });
    }

    public void SendEnd() => Request(j => j.WriteString("k", "end"));

    private void Request(Action<Utf8JsonWriter> body)
    {
        ReadOnlyMemory<byte> frame = HostConnection.Encode(body);          // outside Guard: what fails here is the argument, not the connection
        lock (_state)
        {
            if (_stopRequested) { throw new PipelineStoppedException(); }
            _busy = true;
        }
        Guard(() => _connection.Send(frame));
    }

    /// <summary>Asks the host to stop what this invocation does. Any thread; returns at once.</summary>
    public void RequestStop()
    {
        lock (_state)
        {
            if (_stopRequested) { return; }
            _stopRequested = true;
            if (!_busy) { _connection.Close(); return; }               // nothing was asked, so there is nothing to stop
            _patience = new Timer(_ => { _patienceOver = true; _connection.Close(); }, null, StopPatienceMs, Timeout.Infinite);
        }
        try { _connection.Send(j => j.WriteString("k", "stop")); }
        catch (Exception e) when (IsTransport(e)) { _connection.Close(); }     // it is gone; the pump says so
    }

    /// <summary>Hands records to the sink until the answer to the last request. Runs on the caller's thread.</summary>
    public PumpEnd Pump(IHostSink sink)
    {
        while (true)
        {
            using JsonDocument message = Next();
            JsonElement m = message.RootElement;
            switch (Guard(() => m.GetProperty("k").GetString()))
            {
                case "output": sink.Output(Guard(() => Definitions.Read(m.GetProperty("v")))); break;
                case "error": sink.Error(Guard(() => WireReader.Error(m.GetProperty("e")))); break;
                case "terminating": Idle(); throw new HostFailure(Guard(() => WireReader.Error(m.GetProperty("e"))));
                case "verbose": case "warning": case "debug": case "information":
                    sink.Text(m.GetProperty("k").GetString()!, Visible.Message(WireReader.String(m, "text"))); break;
                case "progress": sink.Progress(Guard(() => WireReader.Progress(m))); break;
                case "ask": if (Answer(sink, m)) { return PumpEnd.Detached; } break;
                case "processed": Idle(); return PumpEnd.Processed;
                case "completed": Idle(); return PumpEnd.Completed;
                case var other: _connection.Close(); throw Lost(new InvalidDataException($"The host sent a message of the unknown kind '{other}'."));
            }
        }
    }

    private void Idle() { lock (_state) { _busy = false; } }

    private bool Answer(IHostSink sink, JsonElement m)
    {
        int id = Guard(() => m.GetProperty("id").GetInt32());
        bool last = !m.TryGetProperty("last", out JsonElement more) || more.ValueKind != JsonValueKind.False;
        bool yes = false;
        try { yes = sink.Ask(WireReader.String(m, "kind"), Visible.Message(WireReader.String(m, "text")), Visible.Line(WireReader.String(m, "action"))); }
        finally                                                            // a stop at the prompt is an answer too: no
        {
            Guard(() => _connection.Send(j => { j.WriteString("k", "reply"); j.WriteNumber("id", id); j.WriteBoolean("value", yes); }));
        }
        _confirmed |= yes;
        return last && _confirmed && sink.DetachAfterConfirm;
    }
    private bool _confirmed;

    private void Greet(IHostSink sink)
    {
        using JsonDocument message = Next();
        JsonElement m = message.RootElement;
        string kind = WireReader.String(m, "k");
        if (kind == "terminating") { throw new HostFailure(Guard(() => WireReader.Error(m.GetProperty("e")))); }
        if (kind != "hello") { _connection.Close(); throw Lost(new InvalidDataException($"The host began with '{kind}' instead of 'hello'.")); }
        int version = Guard(() => m.GetProperty("v").GetInt32());
        string host = WireReader.String(m, "host");
        if (version != Definitions.ProtocolVersion)
        {
            _connection.Close();
            throw new HostFailure("HostVersionMismatch", ErrorCategory.ProtocolError,
                $"The VM storage host (version {host}) speaks protocol version {version}, this module (version {Definitions.ModuleVersion}) speaks {Definitions.ProtocolVersion}. " +
                "Install module and host from the same release, then restart the host with 'vmstorage host stop' and 'vmstorage host start', and this shell.");
        }
        _greeted = true;
        string defs = WireReader.String(m, "defs");
        if (defs.Length > 0 && defs != Definitions.Hash && Interlocked.Exchange(ref s_mixedVersionsSaid, 1) == 0)
        {
            sink.Text("warning", $"The cmdlets of this module (version {Definitions.ModuleVersion}) are not those of the host (version {host}). What both know works; install both from the same release.");
        }
    }

    private JsonDocument Next() => Guard(_connection.Read) ?? throw (_connection.IsClosed ? Closed() : Lost(null));

    private void Guard(Action io) => Guard(() => { io(); return true; });

    private T Guard<T>(Func<T> io)
    {
        try { return io(); }
        catch (Exception e) when (IsTransport(e)) { throw _connection.IsClosed ? Closed() : Lost(e); }
        catch (Exception e) when (e is InvalidDataException or JsonException or FormatException or System.Collections.Generic.KeyNotFoundException or OverflowException or ArgumentException)
        {
            _connection.Close(); throw Lost(e);
        }
        catch (InvalidOperationException e) { _connection.Close(); throw Lost(e); }       // a JSON value of another kind than expected
    }

    private static bool IsTransport(Exception e) => e is IOException or SocketException or ObjectDisposedException;

    /// <summary>We closed it ourselves: stopped, or tired of waiting for the answer to a stop.</summary>
    private Exception Closed() => !_patienceOver ? new PipelineStoppedException() : new HostFailure("HostConnectionLost", ErrorCategory.ConnectionError,
        $"The VM storage host did not answer the request to stop within {StopPatienceMs / 1000} s. The operation may still be running; look with Get-VMStorageMove and Get-VM.");

    private static HostFailure Lost(Exception? e) => new("HostConnectionLost", ErrorCategory.ConnectionError,
        "The connection to the VM storage host was lost" + (e is InvalidDataException or JsonException ? $" ({e.Message})" : "") +
        ". Whether the operation finished is unknown; look with Get-VM and Get-VMStorageMove.", null, e);

    public void Dispose() { _patience?.Dispose(); _connection.Close(); }
}
