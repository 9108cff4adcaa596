/** What is known of a move before it is begun, and the object that -PassPlan makes of it. Pure. */
import type { VMStorageMoveItemObject, VMStorageMovePlanObject } from '../../cmdlets/types/index.js';
import type { VmStorageError } from '../model/errors.js';
import type { MovePlan } from '../model/move.js';
import type { VmConfiguration } from '../model/vm.js';
import type { CheckedMove } from './check.js';
import type { Forecast } from './forecast.js';
import type { VmRecord } from './ports.js';
import type { SpaceFigures } from './space.js';

export interface Foreseen {
  readonly vm: VmRecord;
  /** Null: nothing to do, or what was asked makes no plan (then there is a refusal). */
  readonly plan: MovePlan | null;
  /** Null as well where the file system refuses the plan. */
  readonly checked: CheckedMove | null;
  readonly remarks: readonly string[];
  /** Of each file system that disks go to. */
  readonly room: readonly SpaceFigures[];
  /** Of that room, or that nothing is moved. */
  readonly warnings: readonly string[];
  /** In the order in which they were found; empty when the move would be begun. */
  readonly refusals: readonly VmStorageError[];
}

export function planObject(foreseen: Foreseen, forecast: Forecast | null, computerName: string): VMStorageMovePlanObject {
  const { vm, plan, checked, room, warnings, refusals } = foreseen;
  return {
    $t: 'VMStorageMovePlan',
    VMName: vm.configuration.name,
    VMId: vm.configuration.id,
    Items: plan ? items(vm, plan, checked) : [],
    BytesToCopy: checked ? String(checked.needs.reduce((sum, { data }) => sum + data, 0n)) : null,
    Room: room.map((one) => ({
      $t: 'VMStorageMoveRoom',
      Path: one.folder,
      BytesNeeded: String(one.wanted),
      BytesAtMost: String(one.most),
      BytesFree: String(one.free),
      BytesPromised: String(one.promised),
    })),
    Warnings: [...(checked?.warnings ?? []), ...warnings],
    Refusals: refusals.map(({ code, message, target, recommendedAction }) => ({
      $t: 'VMStorageMoveRefusal',
      ErrorCode: code,
      Message: message,
      Path: target ?? null,
      RecommendedAction: recommendedAction ?? null,
    })),
    ForecastSeconds: forecast ? String(forecast.seconds) : null,
    ForecastBasis: forecast?.basis ?? null,
    ComputerName: computerName,
  };
}

function items(vm: VmRecord, plan: MovePlan, checked: CheckedMove | null): VMStorageMoveItemObject[] {
  const kept = new Set((checked?.plan ?? plan).keepSources.map(({ path }) => path));
  const item = (Kind: string, Source: string, Destination: string): VMStorageMoveItemObject => ({
    $t: 'VMStorageMoveItem',
    Kind,
    Source,
    Destination,
    BytesToCopy: null,
    BytesAtMost: null,
    SourceIsKept: false,
  });
  const disks = plan.disks.map(({ source, target }, at) => {
    const need = checked?.needs[at];
    return {
      ...item('VirtualHardDisk', source, target),
      SourceIsKept: kept.has(source),
      ...(need ? { BytesToCopy: String(need.data), BytesAtMost: String(need.most) } : {}),
    };
  });
  const { configuration: before, configurationFile } = vm;
  const folder = (
    Kind: string,
    name: 'snapshotFileLocation' | ('smartPagingFilePath' & keyof VmConfiguration),
  ): VMStorageMoveItemObject[] => (before[name] === plan.after[name] ? [] : [item(Kind, before[name], plan.after[name])]);
  return [
    ...disks,
    ...(plan.configurationTarget === configurationFile ? [] : [item('Configuration', configurationFile, plan.configurationTarget)]),
    ...folder('Checkpoints', 'snapshotFileLocation'),
    ...folder('SmartPaging', 'smartPagingFilePath'),
  ];
}
