// Text as a person may see it; src/model/visible.ts has the same rule. Objects keep the text itself: this is for messages and for the views.
using System;
using System.Collections;
using System.Globalization;
using System.Linq;
using System.Management.Automation;
using System.Text;

namespace VMStorage.PowerShell;

/// <summary>Used by the views of this module.</summary>
public static class Visible
{
    /// <summary>In one line: a cell, a value, a line of progress.</summary>
    public static string Line(string? text)
    {
        if (string.IsNullOrEmpty(text)) { return text ?? ""; }
        StringBuilder? changed = null;
        for (int at = 0; at < text.Length;)
        {
            bool whole = Rune.TryGetRuneAt(text, at, out Rune rune);       // false: half of a character
            int length = whole ? rune.Utf16SequenceLength : 1;
            int value = whole ? rune.Value : text[at];
            if (!whole || IsHidden(rune))
            {
                changed ??= new StringBuilder(text, 0, at, text.Length + 16);
                changed.Append(value switch { '\n' => "\\n", '\r' => "\\r", '\t' => "\\t", _ => $"\\u{{{value:x}}}" });
            }
            else { changed?.Append(text, at, length); }
            at += length;
        }
        return changed?.ToString() ?? text;
    }

    /// <summary>Lines after the first are indented, so that none can pass for a message of its own.</summary>
    public static string Message(string text) => string.Join("\n  ", text.Split('\n').Select(Line));

    /// <summary>A property's value for a view: texts, objects by their text, and lists of them.</summary>
    public static object? Value(object? value) => (value is PSObject wrapped ? wrapped.BaseObject : value) switch
    {
        null => null,
        string text => Line(text),
        IEnumerable list => list.Cast<object?>().Select(one => Line(one?.ToString())).ToArray(),
        _ => Line(value!.ToString()),                                      // of a deserialized object the wrapper knows the text
    };

    private static bool IsHidden(Rune rune) => Rune.GetUnicodeCategory(rune) is
            UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator or UnicodeCategory.Surrogate
        || IsIgnorable(rune.Value);

    /// <summary>Unicode's Default_Ignorable_Code_Point, as far as it is no format character; .NET has no table of it.</summary>
    private static bool IsIgnorable(int c) => c is 0x034f or 0x115f or 0x1160 or 0x17b4 or 0x17b5 or (>= 0x180b and <= 0x180f) or 0x2065 or 0x3164
        or (>= 0xfe00 and <= 0xfe0f) or 0xffa0 or (>= 0xfff0 and <= 0xfff8) or (>= 0xe0000 and <= 0xe0fff);
}
