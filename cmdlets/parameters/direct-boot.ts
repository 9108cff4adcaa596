/** Our extension: boot a kernel directly, without firmware and boot loader. */
import { parameter, t } from '../define.js';

export const directBoot = {
  KernelPath: parameter(t.path, {
    help: 'Boots this kernel directly, without firmware and boot loader. An extension: Hyper-V does not have it.',
    validate: ['notNullOrEmpty'],
    extension: true,
  }),
  InitialRamdiskPath: parameter(t.path, {
    help: 'Initial RAM disk for the kernel of -KernelPath. An extension: Hyper-V does not have it.',
    validate: ['notNullOrEmpty'],
    extension: true,
  }),
  KernelArguments: parameter(t.string, {
    help: 'Command line for the kernel of -KernelPath. An extension: Hyper-V does not have it.',
    validate: ['notNull'],
    extension: true,
  }),
};
