/** What Compare-VM reports. The type exists because parameters name it; no cmdlet of ours makes one yet. */
import { defineObject, property, t, type WireOf } from '../define.js';

export const VMCompatibilityReport = defineObject({
  name: 'VMCompatibilityReport',
  namespace: 'Microsoft.HyperV.PowerShell',
  help: 'What keeps a virtual machine from being imported or moved.',
  properties: {
    Destination: property(t.string, 'Host it would be on.'),
    Path: property(t.string, 'Configuration that was looked at.'),
    SnapshotPath: property(t.string, 'Folder of its checkpoints.'),
    VhdDestinationPath: property(t.string, 'Folder its disks would be copied to.'),
    VhdSourcePath: property(t.string, 'Folder its disks are in.'),
  },
  keys: ['Path', 'Destination'],
  text: '{Path}',
  view: {
    table: [
      { property: 'Path', width: 60 },
      { property: 'Destination', width: 24 },
    ],
  },
});

export type VMCompatibilityReportObject = WireOf<typeof VMCompatibilityReport>;
