import { defineCmdlet, parameter, placed, t } from './define.js';
import { machines } from './parameters/machine.js';
import { VMStorageMove } from './types/vm-storage-move.js';

export default defineCmdlet({
  verb: 'Get',
  noun: 'VMStorageMove',
  namespace: 'VMStorage.PowerShell.Commands',
  extension: true,
  defaultSet: 'Name',
  outputs: [VMStorageMove],
  synopsis: 'Gets the storage moves of the host.',
  description:
    'Gets the storage moves that wait or run, and the last 64 that have ended, also before the host was started: with phase, progress, speed, what the guest ' +
    'notices of them, and how they ended. Those that go on come first, then those that have ended, the newest first. ' +
    'An own cmdlet: Hyper-V does not have it.',
  examples: [
    { title: 'All moves', code: 'Get-VMStorageMove', remarks: 'Returns every storage move.' },
    {
      title: 'The receipt of one',
      code: '(Get-VMStorageMove web01 -Last 1).Receipt | ConvertFrom-Json',
      remarks: 'Returns what was verified for each disk of web01 in its last move.',
    },
    {
      title: 'Until they have ended',
      code: 'Get-VMStorageMove -Active -Watch | Select-Object VMName, Phase, PercentComplete',
      remarks: 'Returns the moves that wait or run, and each again whenever it changes.',
    },
    { title: 'What goes on', code: 'Get-VMStorageMove -Active', remarks: 'Returns the moves that wait or run.' },
  ],
  parameters: {
    Name: parameter(t.array(t.string), {
      help: 'Names of virtual machines; wildcards are allowed.',
      sets: placed({ position: 0, byValue: true }, 'Name'),
      aliases: ['VMName'],
      validate: ['notNullOrEmpty'],
      complete: 'vmName',
      wildcards: true,
    }),
    VM: machines('VMObject'),
    MoveId: parameter(t.array(t.guid), {
      help: 'Identifiers of moves.',
      sets: placed({ mandatory: true, byName: true }, 'MoveId'),
      validate: ['notNullOrEmpty'],
    }),
    Active: parameter(t.switch, { help: 'Only moves that wait or run.', extension: true }),
    Watch: parameter(t.switch, {
      help: 'Returns each of them again whenever it changes, until none of them goes on.',
      extension: true,
    }),
    Last: parameter(t.int32, {
      help: 'Only so many: of those that go on first, then of those that have ended, the newest first.',
      validate: [{ range: [1, 1000] }],
      extension: true,
    }),
  },
});
