/** OVMF for generation 2: the code is shared and read-only, the variables are the machine's own copy. */
import { access, constants, copyFile } from 'node:fs/promises';
import { VmStorageError } from '../model/errors.js';
import { systemFiles, syncFolder, hasCode } from '../os/files.js';
import { dirname } from 'node:path';

export interface Firmware {
  readonly code: string;
  readonly variables: string;
}

/** Pairs as distributions install them: Debian and Ubuntu, Fedora and RHEL, Arch, SUSE. */
const places: readonly Firmware[] = [
  { code: '/usr/share/OVMF/OVMF_CODE_4M.fd', variables: '/usr/share/OVMF/OVMF_VARS_4M.fd' },
  { code: '/usr/share/OVMF/OVMF_CODE.fd', variables: '/usr/share/OVMF/OVMF_VARS.fd' },
  { code: '/usr/share/edk2/ovmf/OVMF_CODE.fd', variables: '/usr/share/edk2/ovmf/OVMF_VARS.fd' },
  { code: '/usr/share/edk2/x64/OVMF_CODE.4m.fd', variables: '/usr/share/edk2/x64/OVMF_VARS.4m.fd' },
  { code: '/usr/share/qemu/ovmf-x86_64-code.bin', variables: '/usr/share/qemu/ovmf-x86_64-vars.bin' },
];

/** The firmware with the machine's variables in `variablesFile`, copied there the first time. */
export async function machineFirmware(variablesFile: string): Promise<Firmware> {
  for (const place of places) {
    if (!(await readable(place.code)) || !(await readable(place.variables))) continue;
    await systemFiles.makeFolders(dirname(variablesFile));
    try {
      await copyFile(place.variables, variablesFile, constants.COPYFILE_EXCL);
      await syncFolder(dirname(variablesFile));
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error;
    }
    return { code: place.code, variables: variablesFile };
  }
  throw new VmStorageError(
    'HypervisorFailure',
    'A generation 2 machine needs the OVMF firmware, which was not found. Install it (Debian: ovmf; Fedora: edk2-ovmf), or make the machine with -Generation 1.',
  );
}

async function readable(path: string): Promise<boolean> {
  try {
    await access(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}
