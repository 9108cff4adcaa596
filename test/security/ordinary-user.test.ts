/** What an ordinary user sees of a host that runs as root: nothing. */
import { describe, expect, it } from 'vitest';
import { chmodSync } from 'node:fs';
import { Instance } from '../support/instance.js';
import { lacksOrdinaryUser, OrdinaryUser } from '../support/ordinary-user.js';

describe.skipIf(lacksOrdinaryUser())('an ordinary user', () => {
  it('has his own rights and no others', async () => {
    await using user = await OrdinaryUser.create();
    expect(await user.sh('id -u; id -G; grep CapEff /proc/self/status')).toEqual({
      code: 0,
      output: `${user.uid}\n${user.gid}\nCapEff:\t0000000000000000\n`,
    });
  });

  it('reaches neither the socket nor the state of the host', async () => {
    await using user = await OrdinaryUser.create();
    await using instance = await Instance.start('ordinary');
    chmodSync(instance.folder, 0o711); // it is the instance's own folder that keeps him out
    const { home } = instance;
    expect((await user.sh('ls "$1"; cat "$1/registry.json" "$1/host.token"', home)).output).not.toMatch(/[0-9a-f]{16}/);
    const connects = 'use IO::Socket::UNIX; exit(IO::Socket::UNIX->new(Peer => $ARGV[0]) ? 0 : 7)';
    expect(await user.sh('perl -e "$2" "$1"', instance.paths.hostSocket, connects)).toMatchObject({ code: 7 });
  });
});
