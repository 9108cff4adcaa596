/**
 * The guest for machines without QEMU: a vhost-user-blk client in the addon that does the same verified writes. The demo uses
 * it when there is no QEMU or no kernel for the test guest.
 */

/** Null when it can be used; else why not. */
export function builtInGuestMissing(): string | null {
  return 'the built-in guest is not available in this build';
}
