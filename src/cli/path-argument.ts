/**
 * Paths as the host gets them: its working folder is not the user's. The module's PathArgument.cs
 * has the same rules, but for the backslash, which PowerShell itself takes for a slash.
 */
import { isAbsolute, resolve } from 'node:path';
import { isWindowsPath } from '../model/windows-path.js';

/** What Windows would spell is for the host to refuse; the rest becomes absolute. */
export function absolutePath(text: string, cwd: string): string {
  if (isWindowsPath(text)) return text;
  if (text === '~' || text.startsWith('~/')) return (process.env['HOME'] ?? '~') + text.slice(1);
  if (isAbsolute(text)) return text;
  return resolve(cwd, text) + (text.length > 1 && text.endsWith('/') ? '/' : '');
}

/** No folder and no drive in it. */
export function isFileName(text: string): boolean {
  return !text.startsWith('~') && text !== '.' && text !== '..' && !/[\\/:]/.test(text);
}
