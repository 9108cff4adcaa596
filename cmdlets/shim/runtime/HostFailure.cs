// A failure that ends an invocation, or only one record of it, carried as the record PowerShell will show.
using System;
using System.Management.Automation;
using Microsoft.HyperV.PowerShell;

namespace VMStorage.PowerShell;

internal sealed class HostFailure : Exception
{
    public HostFailure(ErrorRecord record) : base(record.Exception.Message, record.Exception) => Record = record;

    public HostFailure(string code, ErrorCategory category, string message, object? target = null, Exception? inner = null)
        : this(new ErrorRecord(new VirtualizationException(Visible.Message(message), code, category, code, inner), code, category, target is string text ? Visible.Line(text) : target)) { }

    public ErrorRecord Record { get; }

    /// <summary>It is the argument of one record; the host was not asked, and the next records have a chance.</summary>
    public bool OfOneRecord { get; init; }
}
