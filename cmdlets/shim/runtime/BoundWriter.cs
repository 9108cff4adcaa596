// Writes the parameters that were bound in this record: 64-bit integers as decimal strings, enums by name, paths made absolute, objects by
// their keys, no secrets.
using System;
using System.Collections;
using System.Globalization;
using System.Management.Automation;
using System.Text.Json;

namespace VMStorage.PowerShell;

/// <summary>An object of ours given as an argument: only what names it travels.</summary>
internal interface IWireKey { void WriteKey(Utf8JsonWriter json); }

internal readonly struct BoundWriter(Utf8JsonWriter json, PSCmdlet cmdlet)
{
    private bool Has(string name) => cmdlet.MyInvocation.BoundParameters.ContainsKey(name);

    private void One<T>(string name, T value, Action<Utf8JsonWriter, T> write)
    {
        if (!Has(name) || value is null) { return; }
        json.WritePropertyName(name); write(json, value);
    }

    private void Many<T>(string name, T[]? values, Action<Utf8JsonWriter, T> write)
    {
        if (!Has(name) || values is null) { return; }
        json.WriteStartArray(name);
        foreach (T value in values) { if (value is null) { json.WriteNullValue(); } else { write(json, value); } }
        json.WriteEndArray();
    }

    public void String(string name, string? value) => One(name, value, static (j, v) => j.WriteStringValue(v));
    public void Strings(string name, string[]? values) => Many(name, values, static (j, v) => j.WriteStringValue(v));
    public void Path(string name, string? value) { PSCmdlet c = cmdlet; One(name, value, (j, v) => j.WriteStringValue(PathArgument.Resolve(c, v!, name))); }
    /// <summary>What names no folder and no drive stays as it is: the host knows the folder it is meant to be in.</summary>
    public void PathOrFileName(string name, string? value) { if (value is not null && PathArgument.IsFileName(value)) { String(name, value); } else { Path(name, value); } }
    public void Paths(string name, string[]? values) { PSCmdlet c = cmdlet; Many(name, values, (j, v) => j.WriteStringValue(PathArgument.Resolve(c, v, name))); }
    public void Bool(string name, bool? value) => One(name, value, static (j, v) => j.WriteBooleanValue(v!.Value));
    public void Switch(string name, SwitchParameter value) => One(name, value, static (j, v) => j.WriteBooleanValue(v.IsPresent));
    public void Number(string name, long? value) => One(name, value, static (j, v) => j.WriteNumberValue(v!.Value));
    public void Int64(string name, long? value) => One(name, value, static (j, v) => j.WriteStringValue(v!.Value.ToString(CultureInfo.InvariantCulture)));
    public void UInt64(string name, ulong? value) => One(name, value, static (j, v) => j.WriteStringValue(v!.Value.ToString(CultureInfo.InvariantCulture)));
    public void Guid(string name, Guid? value) => One(name, value, static (j, v) => j.WriteStringValue(v!.Value));
    public void Guids(string name, Guid[]? values) => Many(name, values, static (j, v) => j.WriteStringValue(v));
    public void TimeSpan(string name, TimeSpan? value) => One(name, value, static (j, v) => j.WriteStringValue(v!.Value.ToString("c", CultureInfo.InvariantCulture)));
    public void Enum(string name, Enum? value) => One(name, value, static (j, v) => j.WriteStringValue(v!.ToString()));
    public void Object(string name, IWireKey? value) => One(name, value, static (j, v) => v!.WriteKey(j));
    public void Objects(string name, IWireKey[]? values) => Many(name, values, static (j, v) => v.WriteKey(j));
    /// <summary>What is only there to be refused: its text.</summary>
    public void Text(string name, object? value) => One(name, value, static (j, v) => j.WriteStringValue(v!.ToString()));
    public void Texts(string name, object[]? values) => Many(name, values, static (j, v) => j.WriteStringValue(v.ToString()));
    public void Credentials(string name, PSCredential[]? values) => Many(name, values, static (j, v) => { j.WriteStartObject(); j.WriteString("user", v.UserName); j.WriteEndObject(); });

    /// <summary>Keys in any case; those that hold paths get the definition's spelling and an absolute path.</summary>
    public void Hashtables(string name, Hashtable[]? values, string[] pathKeys)
    {
        PSCmdlet c = cmdlet;
        Many(name, values, (j, table) =>
        {
            j.WriteStartObject();
            foreach (DictionaryEntry entry in table)
            {
                string key = entry.Key.ToString() ?? "";
                object? value = entry.Value is PSObject p ? p.BaseObject : entry.Value;
                string? pathKey = Array.Find(pathKeys, k => k.Equals(key, StringComparison.OrdinalIgnoreCase));
                j.WritePropertyName(pathKey ?? key);
                switch (value)
                {
                    case null: j.WriteNullValue(); break;
                    case bool b: j.WriteBooleanValue(b); break;
                    case string or System.IO.FileSystemInfo when pathKey is not null:
                        string text = value is System.IO.FileSystemInfo file ? file.FullName : (string)value;
                        j.WriteStringValue(string.IsNullOrWhiteSpace(text) ? "" : PathArgument.Resolve(c, text, $"{name} {pathKey}")); break;
                    case System.Collections.IEnumerable when pathKey is not null: j.WriteNullValue(); break;      // as text it would be the name of a type, and that a path
                    default: j.WriteStringValue(Convert.ToString(value, CultureInfo.InvariantCulture)); break;
                }
            }
            j.WriteEndObject();
        });
    }
}
