// Makes deserialized objects (Import-Clixml, Receive-Job, remoting) real ones again, with every property: the bag is gone afterwards, and
// only real ones bind to -VM from the pipeline. types.ps1xml names the target type; the generated converters call the constructors.
using System;
using System.Collections;
using System.Globalization;
using System.Management.Automation;

namespace VMStorage.PowerShell;

/// <summary>Accepts `Deserialized.T` and nothing else.</summary>
public abstract class RehydratingConverter<T> : PSTypeConverter where T : class
{
    private static bool Fits(object? value) => value is PSObject p && p.TypeNames.Contains("Deserialized." + typeof(T).FullName);
    private protected abstract T Make(PSObject bag);

    public override bool CanConvertFrom(object sourceValue, Type destinationType) => Fits(sourceValue);
    public override bool CanConvertFrom(PSObject sourceValue, Type destinationType) => Fits(sourceValue);
    public override bool CanConvertTo(object sourceValue, Type destinationType) => false;
    public override bool CanConvertTo(PSObject sourceValue, Type destinationType) => false;
    public override object ConvertFrom(object sourceValue, Type destinationType, IFormatProvider formatProvider, bool ignoreCase) => Make((PSObject)sourceValue);
    public override object ConvertFrom(PSObject sourceValue, Type destinationType, IFormatProvider formatProvider, bool ignoreCase) => Make(sourceValue);
    public override object ConvertTo(object sourceValue, Type destinationType, IFormatProvider formatProvider, bool ignoreCase) => throw new InvalidCastException();
    public override object ConvertTo(PSObject sourceValue, Type destinationType, IFormatProvider formatProvider, bool ignoreCase) => throw new InvalidCastException();
}

/// <summary>Reads one property of a property bag.</summary>
internal static class Bag
{
    private static object? Raw(PSObject bag, string name) => bag.Properties[name]?.Value;

    public static T? Value<T>(PSObject bag, string name) => Raw(bag, name) is { } v ? (T)LanguagePrimitives.ConvertTo(v, typeof(T), CultureInfo.InvariantCulture) : default;
    public static string Text(PSObject bag, string name) => Value<string>(bag, name) ?? "";
    public static T Enum<T>(PSObject bag, string name) where T : struct, Enum => Raw(bag, name) is { } v ? ToEnum<T>(v) : default;
    public static T? NullableEnum<T>(PSObject bag, string name) where T : struct, Enum => Raw(bag, name) is { } v ? ToEnum<T>(v) : null;

    /// <summary>A deserialized enum is its number; one this module does not know stays that number.</summary>
    private static T ToEnum<T>(object v) where T : struct, Enum
    {
        object inner = v is PSObject p ? p.BaseObject : v;
        return inner is int or long ? (T)System.Enum.ToObject(typeof(T), inner) : (T)LanguagePrimitives.ConvertTo(inner, typeof(T), CultureInfo.InvariantCulture);
    }

    public static T[] Array<T>(PSObject bag, string name, Func<object, T> read)
    {
        object? raw = Raw(bag, name);
        if ((raw is PSObject p ? p.BaseObject : raw) is not IEnumerable list || list is string) { return []; }
        var result = new System.Collections.Generic.List<T>();
        foreach (object? item in list) { if (item is not null) { result.Add(read(item)); } }
        return [.. result];
    }

    public static T[] Enums<T>(PSObject bag, string name) where T : struct, Enum => Array(bag, name, ToEnum<T>);
    public static string[] Texts(PSObject bag, string name) => Array(bag, name, v => v.ToString() ?? "");
    /// <summary>Objects inside: real ones already, or bags. Below the serialized depth there is only text, and then none are known.</summary>
    public static T[] Objects<T>(PSObject bag, string name) where T : class => System.Array.FindAll(Array(bag, name, v => LanguagePrimitives.TryConvertTo(v, out T made) ? made : null!), made => made is not null);
}
