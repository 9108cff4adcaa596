/**
 * PowerShell's numbers: `40GB`, `1.5TB`, `0x1000`, `1e3`, `4L`. Those that are whole are exact, whatever their size.
 * about_Numeric_Literals has the rules; a hexadecimal number of 8 or 16 digits is signed, as there.
 */

const multipliers: { readonly [suffix: string]: bigint } = {
  '': 1n,
  kb: 1n << 10n,
  mb: 1n << 20n,
  gb: 1n << 30n,
  tb: 1n << 40n,
  pb: 1n << 50n,
};

const NUMBER =
  /^([+-]?)(?:0x([0-9a-f]{1,16})|(\d{1,30})(?:\.(\d{0,18}))?(?:e([+-]?\d{1,2}))?|\.(\d{1,18})(?:e([+-]?\d{1,2}))?)(u?[ysl]?|n)(kb|mb|gb|tb|pb)?$/i;

/** A bigint when it is whole, else a number; undefined for what is no number. The widths of `y`, `s`, `l` and `u` are not looked at. */
export function numberOf(text: string): bigint | number | undefined {
  const match = NUMBER.exec(text);
  if (!match) return undefined;
  const [, sign, hexDigits, whole = '0', ofWhole, exponentOfWhole, ofPoint, exponentOfPoint, width = '', suffix = ''] = match;
  const multiplier = multipliers[suffix.toLowerCase()]! * (sign === '-' ? -1n : 1n);
  if (hexDigits !== undefined) return hexadecimal(hexDigits, /u/i.test(width)) * multiplier;
  const fraction = ofWhole ?? ofPoint ?? '';
  const exponent = Number(exponentOfWhole ?? exponentOfPoint ?? '0') - fraction.length;
  const digits = BigInt(whole + fraction) * multiplier;
  if (exponent >= 0) return digits * 10n ** BigInt(exponent);
  const scale = 10n ** BigInt(-exponent);
  return digits % scale === 0n ? digits / scale : Number(digits) / Number(scale);
}

function hexadecimal(digits: string, unsigned: boolean): bigint {
  const value = BigInt(`0x${digits}`);
  const bits = BigInt(digits.length * 4);
  return !unsigned && (bits === 32n || bits === 64n) && value >= 1n << (bits - 1n) ? value - (1n << bits) : value;
}

/** Only what is whole. */
export function parseInteger(text: string): bigint | undefined {
  const value = numberOf(text);
  return typeof value === 'bigint' ? value : undefined;
}
