// Classes of Hyper-V's object model that scripts name and that have no properties of their own here.
using System;
using System.Management.Automation;

namespace Microsoft.HyperV.PowerShell
{
    /// <summary>What VirtualMachine and VMSnapshot have in common.</summary>
    public abstract class VirtualMachineBase { }

    /// <summary>What drives have in common.</summary>
    public abstract class Drive { }

    /// <summary>The name old scripts catch; never thrown itself.</summary>
    public class VirtualizationOperationFailedException : Exception
    {
        private protected VirtualizationOperationFailedException(string message, Exception? inner) : base(message, inner) { }
    }

    /// <summary>Every error of ours: the text, the id before the class name, the category and our own code.</summary>
    public sealed class VirtualizationException : VirtualizationOperationFailedException
    {
        internal VirtualizationException(string message, string errorIdentifier, ErrorCategory errorCategory, string code, Exception? inner = null) : base(message, inner)
        {
            ErrorIdentifier = errorIdentifier; ErrorCategory = errorCategory; Code = code;
        }

        public string ErrorIdentifier { get; }
        public ErrorCategory ErrorCategory { get; }
        /// <summary>One of the closed list of codes that CLI and host use too.</summary>
        public string Code { get; }
    }
}
