/**
 * Who may import whom. `scripts/lint-layers.mjs` enforces it; a new folder without a line here fails the check.
 *
 * TypeScript: the longest prefix that fits a file is its layer. `may` are layers it may use, `types` those it may use for types
 * only. A layer may always use itself. Rust: the folders of native/engine/src.
 */

const ALL_OF_SRC = [
  'src/model',
  'src/os',
  'src/protocol',
  'src/native',
  'src/hypervisor',
  'src/registry',
  'src/jobs',
  'src/migration',
  'src/worker',
  'src/powershell',
];

const WIZARD = ['src/wizard/contract', 'src/wizard/words', 'src/wizard/steps', 'src/wizard/page', 'src/wizard/gateway'];

/** @type {Record<string, { may: string[], types?: string[], why: string }>} */
export const typescriptLayers = {
  'src/model': { may: [], why: 'the vocabulary: pure, so that everything can speak it' },
  'src/os': {
    may: ['src/model', 'src/native'],
    why: 'the operating system, by Node or by the addon, knows nothing of what it is used for',
  },
  'src/protocol': { may: ['src/model'], why: 'what travels is said in the vocabulary, whoever sends it' },
  'src/native': {
    may: ['src/model', 'src/protocol'],
    types: ['src/os'],
    why: 'the only door to the addon: it converts, it decides nothing',
  },
  'src/powershell': { may: ['src/model', 'src/os'], types: ['src/protocol'], why: 'runs PowerShell, knows no cmdlet of ours' },
  'src/hypervisor': {
    may: ['src/model', 'src/os', 'src/protocol', 'src/native'],
    why: 'a VMM is started from a configuration, whoever keeps that; the built-in guest is a process with the addon and frames to ask it by',
  },
  'src/registry': { may: ['src/model', 'src/os'], why: 'what VMs exist, not what is done with them' },
  'src/jobs': { may: ['src/model', 'src/os'], why: 'admission and queue are the same for every kind of job' },
  'src/migration': {
    may: ['src/model', 'src/os', 'src/protocol', 'src/jobs'],
    types: ['src/registry', 'src/hypervisor', 'src/host', 'cmdlets'],
    why: 'a move works through what it is handed, so that tests can hand it something else; the types of that come from its owners',
  },
  'src/worker': {
    may: ['src/model', 'src/os', 'src/protocol', 'src/native'],
    why: 'one process per VM; it must go on when the host is gone',
  },
  'src/host': { may: ALL_OF_SRC, why: 'composes everything but its own clients' },
  'src/client': {
    may: ['src/model', 'src/protocol', 'src/native'],
    why: 'a client knows the wire and whose process is at its end, never the host behind it',
  },
  'src/wizard/contract': {
    may: ['cmdlets/shim'],
    types: ['src/protocol', 'cmdlets'],
    why: 'what page and gateway say to each other; the line for PowerShell is escaped where everything is',
  },
  'src/wizard/words': { may: [], why: 'texts and how they get their values, for the page alone' },
  'src/wizard/steps': {
    may: [],
    types: ['src/wizard/contract'],
    why: 'the state machine of the wizard: pure, so that it is tested without a browser',
  },
  'src/wizard/page': {
    may: ['src/wizard/contract', 'src/wizard/steps', 'src/wizard/words', 'src/model'],
    types: ['src/protocol', 'cmdlets'],
    why: 'draws states and sends events; it runs in a browser and knows no Node',
  },
  'src/wizard/gateway': {
    may: ['src/wizard/contract', 'src/client', 'src/model', 'src/os', 'src/protocol'],
    types: ['cmdlets'],
    why: 'a client of the host with an HTTP server: what its user may do and no more',
  },
  'src/cli': {
    may: ['src/model', 'src/protocol', 'src/client', 'src/os', 'src/wizard/gateway', 'cmdlets'],
    why: "a client with a terminal; its commands are the cmdlets' definitions",
  },
  'cmdlets/shim': { may: ['cmdlets'], why: 'renders the definitions to PowerShell, decides nothing about them' },
  cmdlets: { may: ['src/model'], types: ['src/protocol'], why: 'definitions are data for PowerShell, CLI and host alike' },
  scripts: {
    may: [...ALL_OF_SRC, 'src/host', 'src/client', 'src/cli', ...WIZARD, 'cmdlets', 'cmdlets/shim', 'test'],
    why: 'tools for this checkout; nothing is built on them',
  },
  test: {
    may: [...ALL_OF_SRC, 'src/host', 'src/client', 'src/cli', ...WIZARD, 'cmdlets', 'cmdlets/shim', 'scripts'],
    why: 'tests look at anything; only scripts may look at them',
  },
  '.config': { may: [], why: 'configuration of tools' },
};

/** The host reads the cmdlets' definitions (names, sets, binding) when it serves them. */
typescriptLayers['src/host'].may.push('cmdlets');

/** @type {Record<string, { may: string[], everywhere?: boolean, why: string }>} `*` = every other layer; `everywhere` = every layer may use it. */
export const rustLayers = {
  disk: { may: [], why: 'the waist: what a disk is, to those who use one and those who make one' },
  reactor: { may: ['disk'], why: 'moves bytes of files, knows no format and no export' },
  file: { may: ['disk'], why: 'host files for the formats: direct I/O, locks, fsync' },
  formats: { may: ['disk', 'file'], why: 'metadata only: where a guest byte lies in a file' },
  image: { may: ['disk', 'file', 'formats', 'reactor'], why: 'a format and the reactor together are a disk' },
  mirror: { may: ['disk', 'file'], why: 'a pure state machine, testable without disks; only its journal touches files' },
  exports: { may: ['disk', 'reactor'], why: 'a front end knows a disk and nothing behind it' },
  service: { may: ['*'], why: 'composes the others into what the addon offers' },
  worker: { may: ['*'], why: 'one VM: its disks, its exports, its moves' },
  kill_point: { may: [], everywhere: true, why: 'named places where a test ends the process; unarmed it does nothing' },
  thread_apart: { may: [], everywhere: true, why: 'a thread that may stand still in a file system and keeps nobody else from anything' },
  memory_guard: { may: [], everywhere: true, why: 'memory that somebody else can take away: touching it ends nothing but what it was for' },
  vital_thread: { may: [], everywhere: true, why: 'a thread whose panic ends the process' },
  testing: { may: ['*'], why: 'test equipment behind a feature' },
};
