// Base of every generated cmdlet: sends what was bound, record by record, and pumps the answers on the pipeline thread.
//
// StopProcessing comes on another thread. A query is closed there. A cmdlet that changes things sends `stop` and its pipeline thread waits
// for the host's answer, because closing does not cancel a move. Dispose comes in every case (Select-Object -First, throw, break, exit).
using System;
using System.Management.Automation;
using System.Threading;

namespace VMStorage.PowerShell;

public abstract class HostCmdlet : PSCmdlet, IDisposable
{
    private HostInvocation? _invocation;
    private int _stopped;

    /// <summary>Writes the bound parameters of the present record (generated).</summary>
    private protected abstract void WriteBound(BoundWriter bound);
    private protected virtual bool RunAsJob => false;
    private protected virtual bool Changes => false;
    private protected abstract string WireName { get; }

    protected override void ProcessRecord()
    {
        HostInvocation invocation = _invocation ??= StartInvocation();              // lazy: no record, no connection
        if (Volatile.Read(ref _stopped) != 0) { throw new PipelineStoppedException(); }
        var sink = new CmdletSink(this);
        PumpEnd end = Run(() =>
        {
            try { invocation.SendProcess(sink, ParameterSetName, json => WriteBound(new BoundWriter(json, this))); }
            catch (HostFailure f) when (f.OfOneRecord) { sink.Error(f.Record); return PumpEnd.Processed; }
            return invocation.Pump(sink);
        });
        if (end == PumpEnd.Detached)
        {
            _invocation = null;                                                      // now the job's: Ctrl+C and Dispose no longer reach it
            HostJob job = HostJob.Adopt(invocation, MyInvocation.Statement, "," + GetType().FullName, ConfirmsSilently);
            JobRepository.Add(job);
            WriteObject(job);
        }
    }

    protected override void EndProcessing()
    {
        if (_invocation is { } invocation) { Run(() => { invocation.SendEnd(); return invocation.Pump(new CmdletSink(this)); }); }
    }

    protected override void StopProcessing()
    {
        Volatile.Write(ref _stopped, 1);
        if (Changes) { _invocation?.RequestStop(); } else { _invocation?.Dispose(); }
    }

    public void Dispose() { _invocation?.Dispose(); GC.SuppressFinalize(this); }

    private HostInvocation StartInvocation() => Report(() => HostInvocation.Start(WireName, SessionState.Path.CurrentLocation.Path,
        IsOn("Verbose", "VerbosePreference"), IsOn("Debug", "DebugPreference"), RunAsJob || IsOn("", "ProgressPreference")));

    /// <summary>
    /// The engine marks the pipeline as stopping before it calls StopProcessing: a write in between throws here first. Leaving then would
    /// close the connection, and closing does not stop a change. So whoever notices first sends `stop`, and both wait for the answer.
    /// </summary>
    private PumpEnd Run(Func<PumpEnd> pump)
    {
        try
        {
            PumpEnd end = Report(pump);
            return Interrupted ? throw new PipelineStoppedException() : end;
        }
        catch (PipelineStoppedException) when (Changes && Interrupted && _invocation is { IsBusy: true } stopping)
        {
            stopping.RequestStop();
            AwaitAnswer(stopping);
            throw;
        }
    }

    private bool Interrupted => Stopping || _invocation is { StopRequested: true };

    private T Report<T>(Func<T> action)
    {
        try { return action(); }
        catch (HostFailure f) when (Interrupted) { Say(f.Record.Exception.Message); throw new PipelineStoppedException(); }
        catch (HostFailure f) { ThrowTerminatingError(f.Record); throw; }
    }

    /// <summary>The stop was noticed while writing a record: what is left is to hear what became of it.</summary>
    private void AwaitAnswer(HostInvocation stopping)
    {
        try { stopping.Pump(new CmdletSink(this)); }
        catch (HostFailure f) { Say(f.Record.Exception.Message); }
        catch (PipelineStoppedException) { }                                         // closed: there is nothing to wait for
    }

    /// <summary>After a stop the streams are closed to us; what the host still says (stopped, or too late) goes to the screen.</summary>
    private void Say(string text)
    {
        try { Host.UI.WriteWarningLine(text); }
        catch (Exception e) when (e is PSNotImplementedException or InvalidOperationException or PipelineStoppedException) { }     // a host without a screen
    }

    private bool IsOn(string parameter, string variable) =>
        MyInvocation.BoundParameters.TryGetValue(parameter, out object? v) && v is SwitchParameter s ? (bool)s
        : Preference(variable, ActionPreference.SilentlyContinue) is not (ActionPreference.SilentlyContinue or ActionPreference.Ignore);

    /// <summary>Set in a script's own scope a preference is plain text, not the enum it is at the top.</summary>
    private T Preference<T>(string variable, T fallback) => GetVariableValue(variable) is { } v && LanguagePrimitives.TryConvertTo(v, out T preference) ? preference : fallback;

    /// <summary>Whether ShouldProcess would say yes without asking: then a job may answer its later questions the same way.</summary>
    private bool ConfirmsSilently =>
        MyInvocation.BoundParameters.TryGetValue("Confirm", out object? v) && v is SwitchParameter s ? !s
        : Preference("ConfirmPreference", ConfirmImpact.High) is ConfirmImpact.None or ConfirmImpact.High;      // our impact is Medium

    private sealed class CmdletSink(HostCmdlet cmdlet) : IHostSink
    {
        private bool _yesToAll, _noToAll;
        public bool DetachAfterConfirm => cmdlet.RunAsJob && !cmdlet.Interrupted;
        public void Output(object value) { if (!cmdlet.Interrupted) { cmdlet.WriteObject(value, false); } }
        public void Error(ErrorRecord error) { if (cmdlet.Interrupted) { cmdlet.Say(error.Exception.Message); } else { cmdlet.WriteError(error); } }
        public void Progress(ProgressRecord progress) { if (!cmdlet.Interrupted) { cmdlet.WriteProgress(progress); } }
        public bool Ask(string kind, string text, string caption) => !cmdlet.Interrupted && (kind == "shouldContinue"
            ? MustConfirm(text, caption)
            : cmdlet.ShouldProcess(text, text + "\nAre you sure you want to continue?", caption));

        /// <summary>PowerShell only says that it is in NonInteractive mode; neither what was asked nor what to do.</summary>
        private bool MustConfirm(string text, string caption)
        {
            // With a security impact the default is No: what must be confirmed is not to be done by an Enter too many.
            try { return cmdlet.ShouldContinue(text, caption, hasSecurityImpact: true, ref _yesToAll, ref _noToAll); }
            catch (Exception e) when (e is PSInvalidOperationException or System.Management.Automation.Host.HostException or PSNotImplementedException)
            {
                throw new PSInvalidOperationException(text + " This must be confirmed, and nobody can be asked. Use -Force.", e);
            }
        }

        public void Text(string stream, string text)
        {
            if (cmdlet.Interrupted) { if (stream == "warning") { cmdlet.Say(text); } return; }
            switch (stream)
            {
                case "verbose": cmdlet.WriteVerbose(text); break;
                case "warning": cmdlet.WriteWarning(text); break;
                case "debug": cmdlet.WriteDebug(text); break;
                default: cmdlet.WriteInformation(text, ["VMStorage"]); break;
            }
        }
    }
}
