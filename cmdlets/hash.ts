/** One hash over all definitions: client and host compare it in `hello`, so that a mixed installation is noticed. */
import { createHash } from 'node:crypto';
import { cmdlets } from './index.js';
import { enums, objectTypes } from './types/index.js';

let known: string | undefined;

export function definitionsHash(): string {
  return (known ??= `sha256:${createHash('sha256').update(JSON.stringify({ cmdlets, objectTypes, enums })).digest('hex')}`);
}
