/** The demo as an ordinary user, who gives nobody another user: QEMU has seccomp and its descriptors, and everything works as for root. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkoutFolder } from '../../src/powershell/checkout.js';
import { lacksOrdinaryUser, OrdinaryUser } from '../support/ordinary-user.js';
import { lacks, requires } from '../support/requires.js';
import { makeScratch } from '../support/scratch.js';
import { chmodSync } from 'node:fs';

const demo = join(checkoutFolder(), 'dist/scripts/demo.js');
const LIMIT_MS = 300_000;

/** Checkout and Node may lie where root alone may read. */
async function mayRead(): Promise<boolean> {
  await using user = await OrdinaryUser.create();
  return (await user.sh('cat "$1" >/dev/null && "$2" --version', demo, process.execPath)).code === 0;
}
const missing = lacksOrdinaryUser() || lacks('qemu-system-x86_64', 'qemu-img', 'guest');

describe.skipIf(missing || !requires('a checkout that every user may read', await mayRead()))('an ordinary user', () => {
  it(
    'runs the demo: the move is proven, byte by byte',
    async () => {
      await using user = await OrdinaryUser.create();
      await using scratch = await makeScratch('demo-user');
      chmodSync(scratch.path, 0o711);
      const own = user.own(join(scratch.path, 'own'), 0o700);
      const { output } = await user.sh(
        'HOME="$1" TMPDIR="$1" exec "$2" "$3" --no-powershell --json 2>/dev/null',
        own,
        process.execPath,
        demo,
      );
      expect(JSON.parse(output)).toMatchObject({ ok: true, guestIoErrors: 0, blocksWrong: 0, sourceGone: true });
    },
    LIMIT_MS,
  );
});
