// Typed reading of wire values; the generated constructors call these. A property that is missing has the value its definition fixes.
using System;
using System.Globalization;
using System.Management.Automation;
using System.Text.Json;
using Microsoft.HyperV.PowerShell;

namespace VMStorage.PowerShell;

internal static class WireReader
{
    private static bool Has(JsonElement o, string name, out JsonElement v) => o.TryGetProperty(name, out v) && v.ValueKind is not (JsonValueKind.Null or JsonValueKind.Undefined);
    /// <summary>Null when sent as null, `missing` when not sent.</summary>
    public static T? OrNull<T>(JsonElement o, string name, T? missing, Func<JsonElement, string, T> read) where T : struct =>
        !o.TryGetProperty(name, out JsonElement v) ? missing : v.ValueKind == JsonValueKind.Null ? null : read(o, name);
    public static string? StringOrNull(JsonElement o, string name) => Has(o, name, out _) ? String(o, name) : null;

    public static string String(JsonElement o, string name, string fallback = "") => Has(o, name, out JsonElement v) ? v.ValueKind == JsonValueKind.String ? v.GetString()! : v.GetRawText() : fallback;
    public static bool Bool(JsonElement o, string name, bool fallback = false) => Has(o, name, out JsonElement v) ? v.GetBoolean() : fallback;
    public static int Int32(JsonElement o, string name, int fallback = 0) => Has(o, name, out JsonElement v) ? int.Parse(Digits(v), CultureInfo.InvariantCulture) : fallback;
    public static uint UInt32(JsonElement o, string name, uint fallback = 0) => Has(o, name, out JsonElement v) ? uint.Parse(Digits(v), CultureInfo.InvariantCulture) : fallback;
    public static long Int64(JsonElement o, string name, long fallback = 0) => Has(o, name, out JsonElement v) ? long.Parse(Digits(v), CultureInfo.InvariantCulture) : fallback;
    public static ulong UInt64(JsonElement o, string name, ulong fallback = 0) => Has(o, name, out JsonElement v) ? ulong.Parse(Digits(v), CultureInfo.InvariantCulture) : fallback;
    public static double Double(JsonElement o, string name, double fallback = 0) => Has(o, name, out JsonElement v) ? v.GetDouble() : fallback;
    public static Guid Guid(JsonElement o, string name, Guid fallback = default) => Has(o, name, out JsonElement v) ? System.Guid.Parse(v.GetString()!) : fallback;
    public static TimeSpan TimeSpan(JsonElement o, string name, TimeSpan fallback = default) => Has(o, name, out JsonElement v) ? System.TimeSpan.ParseExact(v.GetString()!, "c", CultureInfo.InvariantCulture) : fallback;
    public static DateTime DateTime(JsonElement o, string name, DateTime fallback = default) => Has(o, name, out JsonElement v) ? v.GetDateTime().ToLocalTime() : fallback;
    public static T Enum<T>(JsonElement o, string name, T fallback = default) where T : struct, Enum => Has(o, name, out JsonElement v) ? Enum<T>(v) : fallback;

    /// <summary>64-bit integers travel as decimal strings; a plain number is taken too. "1.5" and "1e3" are refused by the parser.</summary>
    private static string Digits(JsonElement v) => v.ValueKind == JsonValueKind.String ? v.GetString()! : v.GetRawText();
    /// <summary>By name; a number of a newer host stays that number.</summary>
    public static T Enum<T>(JsonElement v) where T : struct, Enum => v.ValueKind == JsonValueKind.Number ? (T)System.Enum.ToObject(typeof(T), v.GetInt32()) : System.Enum.Parse<T>(v.GetString()!, ignoreCase: true);

    public static T[] Array<T>(JsonElement o, string name, Func<JsonElement, T> read)
    {
        if (!Has(o, name, out JsonElement v)) { return []; }
        var list = new T[v.GetArrayLength()]; int i = 0;
        foreach (JsonElement e in v.EnumerateArray()) { list[i++] = read(e); }
        return list;
    }

    public static string Text(JsonElement v) => v.GetString() ?? "";

    public static ErrorRecord Error(JsonElement e)
    {
        string message = Visible.Message(String(e, "message", "The host reported an error without text.")), id = String(e, "errorId", "HostError"), code = String(e, "code", "HostInternalError");
        ErrorCategory category = System.Enum.TryParse(String(e, "category"), out ErrorCategory c) ? c : ErrorCategory.NotSpecified;
        string target = Visible.Line(String(e, "target")), action = Visible.Message(String(e, "recommendedAction"));
        var record = new ErrorRecord(new VirtualizationException(message, id, category, code), id, category, target.Length > 0 ? target : null);
        if (action.Length > 0) { record.ErrorDetails = new ErrorDetails(message) { RecommendedAction = action }; }
        return record;
    }

    public static ProgressRecord Progress(JsonElement m)
    {
        string activity = Visible.Line(String(m, "activity", "Working")), status = Visible.Line(String(m, "status"));
        return new ProgressRecord(Int32(m, "id"), activity.Length > 0 ? activity : "Working", status.Length > 0 ? status : " ")     // the record refuses empty texts
        {
            PercentComplete = Math.Clamp(Has(m, "percent", out JsonElement p) ? (int)p.GetDouble() : -1, -1, 100),
            SecondsRemaining = Has(m, "secondsRemaining", out JsonElement s) ? (int)Math.Min(s.GetDouble(), int.MaxValue) : -1,
            RecordType = Bool(m, "done") ? ProgressRecordType.Completed : ProgressRecordType.Processing,
        };
    }
}
