/** What is wrong with the files of machines: one that is gone, or whose file system does not answer. For Get-VM, which must not wait for either. */
import type { Look, Seen } from '../os/outside-look.js';
import type { HostServices, VmRecord } from './services.js';

export function fileTrouble(look: Look, { locks }: Pick<HostServices, 'locks'>): HostServices['fileTrouble'] {
  return async (machines) => {
    // A move changes which files they are while it is looked; what is wrong with them it says itself.
    const settled = machines.filter(({ configuration: { id } }) => !locks.isMoving(id));
    const seen = await look(settled.flatMap(filesOf));
    const trouble = new Map<string, readonly string[]>();
    for (const machine of settled) {
      const texts = troubleOf(machine, seen);
      if (texts.length > 0 && !locks.isMoving(machine.configuration.id)) trouble.set(machine.configuration.id, texts);
    }
    return trouble;
  };
}

const filesOf = ({ configuration, configurationFile }: VmRecord): readonly string[] => [
  configurationFile,
  ...configuration.disks.map((disk) => disk.path),
];

function troubleOf({ configuration, configurationFile }: VmRecord, seen: ReadonlyMap<string, Seen>): readonly string[] {
  const about = (what: string, path: string): readonly string[] => {
    const found = seen.get(path);
    if (found?.is === 'missing') return [`${what} '${path}' cannot be found: ${found.why}`];
    return found?.is === 'silent' ? [`the file system of ${what.charAt(0).toLowerCase()}${what.slice(1)} '${path}' does not answer`] : [];
  };
  return [
    ...about('The configuration', configurationFile),
    ...configuration.disks.flatMap((disk, index) => about(`Disk ${index}`, disk.path)),
  ];
}
