/**
 * What the built-in guest does to its disks: defaults, changed by VMSTORAGE_BUILT_IN_GUEST (a JSON object, of the host's environment) and
 * then by the machine's own kernel arguments. Of those the guest's words are read and all others left to a kernel.
 *
 * | VMSTORAGE_BUILT_IN_GUEST            | kernel argument | what                                                   | default |
 * | ----------------------------------- | --------------- | ------------------------------------------------------ | ------- |
 * | queueDepth                          | w.qd            | requests in flight per disk                            | 32      |
 * | spanBytes                           | w.span (MiB)    | only this much of each disk is used                    | all     |
 * | rate                                | w.iops          | requests per second and disk                           | no limit|
 * | flushEvery                          | w.fsync         | writes between two flushes                             | 64      |
 * | hotBytes, hotPercent                | w.hot           | where so many percent of the requests go: they overlap | 256 KiB, 50 |
 * | writePercent, zeroPercent           | w.write, w.zero | shares; the rest are reads                             | 60, 2   |
 * | longestBlocks                       | w.blocks        | 4 KiB blocks of the longest request                    | 16      |
 * | seed                                | w.seed          | of the random choices                                  | 1       |
 * | verifyAtEnd                         | w.verify (0, 1) | read back everything when it is shut down              | true    |
 */
import { VmStorageError } from '../model/errors.js';
import type { NativeGuestOptions } from '../native/binding.js';

export type BuiltInLoad = Omit<NativeGuestOptions, 'sockets' | 'queues' | 'ledgerFolder' | 'continueLedger'>;

const MIB = 2 ** 20;
type NumberOption = Exclude<keyof BuiltInLoad, 'verifyAtEnd'>;
const numbers: readonly NumberOption[] = [
  'seed',
  'queueDepth',
  'longestBlocks',
  'spanBytes',
  'hotBytes',
  'hotPercent',
  'writePercent',
  'zeroPercent',
  'flushEvery',
  'rate',
];
const words: { readonly [word: string]: { readonly option: NumberOption; readonly unit: number } } = {
  'w.seed': { option: 'seed', unit: 1 },
  'w.qd': { option: 'queueDepth', unit: 1 },
  'w.blocks': { option: 'longestBlocks', unit: 1 },
  'w.span': { option: 'spanBytes', unit: MIB },
  'w.hot': { option: 'hotPercent', unit: 1 },
  'w.write': { option: 'writePercent', unit: 1 },
  'w.zero': { option: 'zeroPercent', unit: 1 },
  'w.fsync': { option: 'flushEvery', unit: 1 },
  'w.iops': { option: 'rate', unit: 1 },
};

export function builtInLoad(environment: { readonly [name: string]: string | undefined }, kernelArguments: string): BuiltInLoad {
  const load: { -readonly [K in keyof BuiltInLoad]: BuiltInLoad[K] } = {};
  const given = environment['VMSTORAGE_BUILT_IN_GUEST'];
  for (const [name, value] of Object.entries(given ? parse(given) : {})) {
    if (name === 'verifyAtEnd' && typeof value === 'boolean') load.verifyAtEnd = value;
    else if (numbers.includes(name as NumberOption) && isCount(value)) load[name as NumberOption] = value;
    else throw wrong(`"${name}": ${JSON.stringify(value)} is no option of the built-in guest`);
  }
  for (const argument of kernelArguments.split(/\s+/)) {
    const [word = '', text = ''] = argument.split('=');
    if (word === 'w.verify') load.verifyAtEnd = text !== '0';
    const known = words[word];
    if (!known) continue;
    const value = Number(text) * known.unit;
    if (text === '' || !isCount(value)) throw wrong(`the kernel argument "${argument}" has no whole number`);
    load[known.option] = value;
  }
  return load;
}

function parse(text: string): object {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value;
  } catch {
    // said below
  }
  throw wrong('VMSTORAGE_BUILT_IN_GUEST does not hold a JSON object');
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const wrong = (what: string): VmStorageError =>
  new VmStorageError('InvalidParameter', `${what}. See src/hypervisor/built-in-load.ts for what there is.`);
