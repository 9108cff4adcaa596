/** OVMF for generation 2: the code is shared and read-only, the variables are the machine's own copy. QEMU inherits both, open. */
import { access, constants, copyFile, open, rename } from 'node:fs/promises';
import { VmStorageError } from '../model/errors.js';
import { systemFiles, syncFolder, temporaryName } from '../os/files.js';
import { dirname } from 'node:path';
import type { Inherited } from './inherited.js';

export interface Firmware {
  readonly code: string;
  readonly variables: string;
}

/** Their numbers in a QEMU that inherits them. */
export interface InheritedFirmware {
  readonly code: number;
  readonly variables: number;
}

/** Pairs as distributions install them: Debian and Ubuntu, Fedora and RHEL, Arch, SUSE. */
const places: readonly Firmware[] = [
  { code: '/usr/share/OVMF/OVMF_CODE_4M.fd', variables: '/usr/share/OVMF/OVMF_VARS_4M.fd' },
  { code: '/usr/share/OVMF/OVMF_CODE.fd', variables: '/usr/share/OVMF/OVMF_VARS.fd' },
  { code: '/usr/share/edk2/ovmf/OVMF_CODE.fd', variables: '/usr/share/edk2/ovmf/OVMF_VARS.fd' },
  { code: '/usr/share/edk2/x64/OVMF_CODE.4m.fd', variables: '/usr/share/edk2/x64/OVMF_VARS.4m.fd' },
  { code: '/usr/share/qemu/ovmf-x86_64-code.bin', variables: '/usr/share/qemu/ovmf-x86_64-vars.bin' },
];

/** What is installed, variables as they were shipped; null when there is none. */
export async function findFirmware(): Promise<Firmware | null> {
  for (const place of places)
    if ((await allows(place.code, constants.R_OK)) && (await allows(place.variables, constants.R_OK))) return place;
  return null;
}

/** Opens the machine's firmware for a QEMU. */
export async function openFirmware(variablesFile: string, inherited: Inherited): Promise<InheritedFirmware> {
  const firmware = await machineFirmware(variablesFile);
  return {
    code: inherited.addFile(await open(firmware.code, constants.O_RDONLY)),
    variables: inherited.addFile(await open(firmware.variables, constants.O_RDWR | constants.O_NOFOLLOW)),
  };
}

/** The firmware with the machine's variables in `variablesFile`, copied there the first time. */
async function machineFirmware(variablesFile: string): Promise<Firmware> {
  const installed = await findFirmware();
  if (!installed)
    throw new VmStorageError(
      'HypervisorFailure',
      'A generation 2 machine needs the OVMF firmware, which was not found. Install it (Debian: ovmf; Fedora: edk2-ovmf), or make the machine with -Generation 1.',
    );
  if (!(await allows(variablesFile, constants.F_OK))) await copyWhole(installed.variables, variablesFile);
  return { code: installed.code, variables: variablesFile };
}

/** QEMU refuses flash of another size for good, so half a copy must never have the name: the host may die in the middle. */
async function copyWhole(from: string, to: string): Promise<void> {
  await systemFiles.makeFolders(dirname(to));
  const temporary = temporaryName(to);
  await copyFile(from, temporary);
  const copy = await open(temporary, 'r+');
  try {
    await copy.sync();
  } finally {
    await copy.close();
  }
  await rename(temporary, to);
  await syncFolder(dirname(to));
}

async function allows(path: string, mode: number): Promise<boolean> {
  try {
    await access(path, mode);
    return true;
  } catch {
    return false;
  }
}
