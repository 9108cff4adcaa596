// Tab: names of VMs from the host, within a budget; paths as they are; nothing where file names (PowerShell's default) would be wrong. Never starts the host,
// never fails the prompt.
using System;
using System.Collections;
using System.Collections.Generic;
using System.Management.Automation;
using System.Management.Automation.Language;
using System.Text.Json;
using System.Threading;

namespace VMStorage.PowerShell;

[AttributeUsage(AttributeTargets.Property)]
public sealed class HostCompleterAttribute : ArgumentCompleterAttribute, IArgumentCompleterFactory
{
    public HostCompleterAttribute(string kind) => Kind = kind;
    public string Kind { get; }
    public IArgumentCompleter Create() => new HostCompleter(Kind);
}

internal sealed class HostCompleter(string kind) : IArgumentCompleter
{
    /// <summary>The engine has no limit of its own: a host that hangs would hang the prompt.</summary>
    public const int BudgetMs = 400;

    public IEnumerable<CompletionResult> CompleteArgument(string commandName, string parameterName, string wordToComplete, CommandAst commandAst, IDictionary fakeBoundParameters)
    {
        var results = new List<CompletionResult>();
        if (kind == "nothing") { return results; }
        try
        {
            if (kind == "path") { return Literal(CompletionCompleters.CompleteFilename(wordToComplete)); }
            string word = wordToComplete.Trim('\'', '"');
            using HostConnection? connection = HostConnection.TryOpen(HostAddress.Current, BudgetMs);
            if (connection is null) { return results; }
            using var limit = new Timer(_ => connection.Close(), null, BudgetMs, Timeout.Infinite);
            connection.Send(
                j => { j.WriteString("k", "hello"); j.WriteNumber("v", Definitions.ProtocolVersion); j.WriteNumber("pid", Environment.ProcessId); j.WriteString("client", "powershell"); },
                j => { j.WriteString("k", "complete"); j.WriteString("kind", kind); j.WriteString("word", word); });
            while (connection.Read() is { } message)
            {
                using (message)
                {
                    if (!message.RootElement.TryGetProperty("items", out JsonElement items)) { continue; }       // hello
                    foreach (JsonElement item in items.EnumerateArray())
                    {
                        string text = WireReader.String(item, "text"), tip = WireReader.String(item, "tip");
                        if (text.Length > 0 && Visible.Line(text) == text) { results.Add(new CompletionResult(Quote(text), text, CompletionResultType.ParameterValue, tip.Length > 0 ? Visible.Line(tip) : text)); }
                    }
                    return results;
                }
            }
        }
        catch (Exception) { }                      // a completer never fails the prompt
        return results;
    }

    /// <summary>The engine escapes brackets, for parameters that take patterns. Ours take the path as it is: an escape would name another folder.</summary>
    private static IEnumerable<CompletionResult> Literal(IEnumerable<CompletionResult> files)
    {
        foreach (CompletionResult file in files)
        {
            string text = file.CompletionText.Replace("`[", "[", StringComparison.Ordinal).Replace("`]", "]", StringComparison.Ordinal);
            yield return new CompletionResult(text, file.ListItemText, file.ResultType, file.ToolTip);
        }
    }

    /// <summary>A dash (typographic ones too) at the beginning would be a parameter.</summary>
    private static string Quote(string text) =>
        text[0] != '-' && text.AsSpan().IndexOfAnyExcept(System.Buffers.SearchValues.Create("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")) < 0
            ? text : "'" + CodeGeneration.EscapeSingleQuotedStringContent(text) + "'";
}
