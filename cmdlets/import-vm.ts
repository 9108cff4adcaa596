import { defineCmdlet, parameter, placed, t, within } from './define.js';
import { remote } from './parameters/remote.js';
import { asJob } from './parameters/switches.js';
import { VirtualMachine } from './types/virtual-machine.js';
import { VMCompatibilityReport } from './types/vm-compatibility-report.js';

const subject = { mandatory: true, position: 0, byValue: true } as const;
const ofCopy = (help: string, aliases: readonly string[] = []) =>
  parameter(t.path, { help: `${help} Not implemented.`, sets: within('Copy'), aliases, notImplemented: true });

export default defineCmdlet({
  verb: 'Import',
  noun: 'VM',
  defaultSet: 'Register',
  changes: true,
  outputs: [VirtualMachine],
  synopsis: 'Registers a virtual machine from its files.',
  description:
    'Registers the virtual machine of a configuration file (.vmcx) in place: files stay where they are, and the configuration is written anew under ' +
    'its name. With this a person vouches for a file that the host did not write itself: one that was restored, or copied from another host. It has to be where its ' +
    'machine says (<Path>/Virtual Machines/<identifier>.vmcx), in a folder that only root, the user of the host and whoever imports it can write to. ' +
    'Whoever imports a virtual machine owns it.',
  examples: [
    {
      title: 'One that was restored from a backup',
      code: "Import-VM -Path '/srv/slow/Virtual Machines/8f14e45f-ceea-467f-9c1d-1a2b3c4d5e6f.vmcx'",
      remarks: 'Registers the virtual machine, or puts right one that Get-VM has shown as faulty.',
    },
    {
      title: 'What would be registered',
      code: "Import-VM '/srv/slow/Virtual Machines/8f14e45f-ceea-467f-9c1d-1a2b3c4d5e6f.vmcx' -Register -WhatIf",
      remarks: 'Says which virtual machine the file is of.',
    },
  ],
  parameters: {
    ...remote(within('Register', 'Copy')),
    CompatibilityReport: parameter(t.key(VMCompatibilityReport), {
      help: 'Report of Compare-VM to go by. Not implemented.',
      sets: placed(subject, 'CompatibilityReport'),
      notImplemented: true,
    }),
    Path: parameter(t.path, {
      help: 'Configuration file of the virtual machine.',
      sets: placed(subject, 'Register', 'Copy'),
      validate: ['notNullOrEmpty'],
    }),
    VhdDestinationPath: parameter(t.path, {
      help: 'Folder to copy its disks to. Not implemented.',
      sets: placed({ position: 1 }, 'Copy'),
      notImplemented: true,
    }),
    Register: parameter(t.switch, { help: 'Registers it in place, which is the default.', sets: within('Register') }),
    Copy: parameter(t.switch, {
      help: 'Copies its files. Not implemented.',
      sets: placed({ mandatory: true }, 'Copy'),
      notImplemented: true,
    }),
    VirtualMachinePath: ofCopy('Folder to copy its configuration to.'),
    SnapshotFilePath: ofCopy('Folder to copy its checkpoints to.', ['CheckpointFileLocation', 'SnapshotFileLocation']),
    SmartPagingFilePath: ofCopy('Folder for its paging files.'),
    VhdSourcePath: ofCopy('Folder its disks are in.'),
    GenerateNewId: parameter(t.switch, {
      help: 'Gives it a new identifier. Not implemented.',
      sets: within('Copy'),
      notImplemented: true,
    }),
    AsJob: asJob,
  },
});
