// What -AsJob returns. The parent is a plain Job (Receive-Job -AutoRemoveJob looks for a Job2 in the job manager, for a Job in
// JobRepository); its one child is a Job2 (only there may a subclass set a state with its reason).
//
//   child:  Running -> Completed | Failed | Stopped        parent: the same states
//
// A failure is an error of the child's stream, as it is without a job: with its category, its id and its target. It is no reason of the state:
// Receive-Job would write that once more, as "JobStateFailed" of the category InvalidResult. Scripts look for it there all the same, and find it:
// what they read as .JobStateInfo is ReportedStateInfo (VMStorage.types.ps1xml).
using System;
using System.Management.Automation;
using System.Threading;
using Microsoft.HyperV.PowerShell;

namespace VMStorage.PowerShell;

internal sealed class HostJob : Job
{
    private readonly HostChildJob _child;

    private HostJob(string command, string errorSuffix, bool confirmsSilently, HostInvocation invocation) : base(command)
    {
        PSJobTypeName = "VMJob";
        ChildJobs.Add(_child = new HostChildJob(command, errorSuffix, confirmsSilently, invocation, this));
        Progress = _child.Progress;                                    // one collection: $job.Progress and $job.ChildJobs[0].Progress
        SetJobState(JobState.Running);
    }

    public static HostJob Adopt(HostInvocation invocation, string command, string errorSuffix, bool confirmsSilently)
    {
        var job = new HostJob(command, errorSuffix, confirmsSilently, invocation);
        job._child.Begin();
        return job;
    }

    public override string StatusMessage => _child.StatusMessage;
    public override bool HasMoreData => _child.HasMoreData;
    public override string Location => _child.Location;

    public override void StopJob()
    {
        if (JobStateInfo.State is JobState.Running or JobState.NotStarted) { Quietly(() => SetJobState(JobState.Stopping)); }
        _child.StopJob();
    }

    internal void Finish(JobState state) => Quietly(() => SetJobState(state));

    /// <summary>A job may be removed (disposed) at any moment: then nobody wants its state or its records.</summary>
    internal static void Quietly(Action action) { try { action(); } catch (ObjectDisposedException) { } catch (InvalidOperationException) { } }

    protected override void Dispose(bool disposing) { if (disposing) { _child.Dispose(); } base.Dispose(disposing); }
}

/// <summary>Holds the streams and the reason.</summary>
internal sealed class HostChildJob : Job2, IHostSink
{
    /// <summary>Progress records kept; the newest ones.</summary>
    private const int MaxProgress = 256;
    private readonly HostInvocation _invocation;
    private readonly HostJob _parent;
    private readonly string _errorSuffix;
    private readonly bool _confirmsSilently;
    private volatile string _status = "";
    private Exception? _failure;
    /// <summary>The first error, until it is known whether it is only the answer to a stop.</summary>
    private ErrorRecord? _held;

    public HostChildJob(string command, string errorSuffix, bool confirmsSilently, HostInvocation invocation, HostJob parent) : base(command)
    {
        _invocation = invocation; _parent = parent; _errorSuffix = errorSuffix; _confirmsSilently = confirmsSilently; PSJobTypeName = "VMJob";
    }

    public void Begin()
    {
        SetJobState(JobState.Running, null);
        new Thread(Run) { IsBackground = true, Name = "VMJob" }.Start();
    }

    /// <summary>JobStateInfo as scripts see it: with the failure as its reason.</summary>
    public JobStateInfo ReportedStateInfo => JobStateInfo.State == JobState.Failed && _failure is not null ? new(JobState.Failed, _failure) : JobStateInfo;

    public override string StatusMessage => _status;
    public override string Location => Environment.MachineName;
    public override bool HasMoreData => Output.Count + Error.Count + Warning.Count + Verbose.Count + Debug.Count + Information.Count + Progress.Count > 0;

    private void Run()
    {
        bool stopped = false;
        try
        {
            _invocation.Pump(this);
            if (!_invocation.StopRequested) { _invocation.SendEnd(); _invocation.Pump(this); }
        }
        catch (PipelineStoppedException) { stopped = true; }
        catch (HostFailure f) { ((IHostSink)this).Error(f.Record); }
        catch (Exception e) { ((IHostSink)this).Error(new ErrorRecord(e, "HostInternalError", ErrorCategory.NotSpecified, null)); }
        _invocation.Dispose();
        // A stop that came too late (the move had been committed) is a completed job.
        if (_invocation.StopRequested && _failure is VirtualizationException { Code: "OperationStopped" }) { stopped = true; _failure = null; _held = null; }
        Tell();
        JobState state = _failure is not null ? JobState.Failed : stopped ? JobState.Stopped : JobState.Completed;
        HostJob.Quietly(() => SetJobState(state, null));                  // closes the streams: every record came before
        _parent.Finish(state);
    }

    bool IHostSink.DetachAfterConfirm => false;

    /// <summary>Confirmed before the job began. What was not asked then can only be granted if nothing would have been asked at all.</summary>
    bool IHostSink.Ask(string kind, string text, string caption)
    {
        if (kind == "shouldProcess" && _confirmsSilently) { return true; }
        ((IHostSink)this).Error(new ErrorRecord(new VirtualizationException($"{text} This needs a confirmation, and a job cannot ask. Use -Force or -Confirm:$false.",
            "InvalidState", ErrorCategory.InvalidOperation, "InvalidState"), "InvalidState", ErrorCategory.InvalidOperation, null));
        return false;
    }

    void IHostSink.Output(object value) => HostJob.Quietly(() => Output.Add(PSObject.AsPSObject(value)));

    /// <summary>The first error is why the job failed.</summary>
    void IHostSink.Error(ErrorRecord e)
    {
        _failure ??= e.Exception;
        Tell();
        _held = e;
    }

    private void Tell()
    {
        if (_held is not { } e) { return; }
        _held = null;
        HostJob.Quietly(() => Error.Add(new ErrorRecord(e.Exception, e.FullyQualifiedErrorId + _errorSuffix, e.CategoryInfo.Category, e.TargetObject)));   // no InvocationInfo in a job: the class name is added here
    }

    void IHostSink.Progress(ProgressRecord p)
    {
        _status = p.StatusDescription;
        HostJob.Quietly(() =>
        {
            while (Progress.Count >= MaxProgress) { Progress.RemoveAt(0); }
            Progress.Add(p);
        });
    }

    void IHostSink.Text(string stream, string text) => HostJob.Quietly(() =>
    {
        switch (stream)
        {
            case "verbose": Verbose.Add(new VerboseRecord(text)); break;
            case "warning": Warning.Add(new WarningRecord(text)); break;
            case "debug": Debug.Add(new DebugRecord(text)); break;
            default: Information.Add(new InformationRecord(text, "VMStorage")); break;
        }
    });

    public override void StopJob()
    {
        if (JobStateInfo.State == JobState.Running) { HostJob.Quietly(() => SetJobState(JobState.Stopping, null)); }
        _invocation.RequestStop();                                        // Run ends with the host's answer, or when patience is over
        HostJob.Quietly(() => Finished.WaitOne(HostInvocation.StopPatienceMs + 2000));
    }

    protected override void Dispose(bool disposing) { if (disposing) { _invocation.Dispose(); } base.Dispose(disposing); }

    public override void StopJob(bool force, string reason) => StopJob();
    public override void StopJobAsync() => ThreadPool.QueueUserWorkItem(_ => { StopJob(); OnStopJobCompleted(new(null, false, null)); });
    public override void StopJobAsync(bool force, string reason) => StopJobAsync();
    public override void StartJob() => throw new PSNotSupportedException();
    public override void StartJobAsync() => throw new PSNotSupportedException();
    public override void SuspendJob() => throw new PSNotSupportedException();
    public override void SuspendJob(bool force, string reason) => throw new PSNotSupportedException();
    public override void SuspendJobAsync() => throw new PSNotSupportedException();
    public override void SuspendJobAsync(bool force, string reason) => throw new PSNotSupportedException();
    public override void ResumeJob() => throw new PSNotSupportedException();
    public override void ResumeJobAsync() => throw new PSNotSupportedException();
    public override void UnblockJob() => throw new PSNotSupportedException();
    public override void UnblockJobAsync() => throw new PSNotSupportedException();
}
