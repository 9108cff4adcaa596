// A parameter that takes text takes no object for it. PowerShell makes text of anything: a move piped into Stop-VMStorageMove became the name
// "web01 copy 11 %", and the move went on. What is refused here binds elsewhere (by its type, by a property), or not at all, and PowerShell
// says so.
using System;
using System.Collections;
using System.IO;
using System.Management.Automation;
using System.Management.Automation.Internal;

namespace VMStorage.PowerShell;

[AttributeUsage(AttributeTargets.Property)]
public sealed class TextArgumentAttribute : ArgumentTransformationAttribute
{
    /// <summary>Objects of this type are taken as well.</summary>
    public Type? Or { get; set; }

    public override object? Transform(EngineIntrinsics engineIntrinsics, object? inputData)
    {
        if (NotText(inputData) is not { } other) { return inputData; }
        string message = $"An object of the type {other.Name} is not text. Give the property that is meant, such as its name or path, or pipe it into a cmdlet that takes such objects.";
        throw new ArgumentTransformationMetadataException(message, new PSInvalidCastException(message));      // the cast: then the pipeline tries its other parameters
    }

    /// <summary>The type of the first thing inside that is no text; numbers, identifiers, names of enumerations and files have a text that means them.</summary>
    private Type? NotText(object? value)
    {
        object? inner = value is PSObject wrapped && wrapped != AutomationNull.Value ? wrapped.BaseObject : value;
        switch (inner)
        {
            case null or string or ValueType or Version or Uri or FileSystemInfo: return null;
            case not null when Or is not null && Or.IsInstanceOfType(inner): return null;
            case IDictionary: return inner.GetType();
            case IEnumerable list:
                foreach (object? one in list) { if (NotText(one) is { } other) { return other; } }
                return null;
            default: return inner == AutomationNull.Value ? null : inner.GetType();
        }
    }
}
