/**
 * Debian packages: what the project runs beside Node and Rust. As root on Debian they are installed; elsewhere what is missing
 * is named, with what it is for, and the set-up goes on. QEMU must be 9.2 or newer (`reconnect-ms`); where the release is
 * older it comes from its backports, through whatever mirror this machine already uses.
 */
import { accessSync, constants, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { firstLineOf, isStamped, runProgram, SetupFailure, stamp } from './step.mjs';

export const QEMU_LEAST = [9, 2];

/** @param {string} program @returns {string | null} */
export function findProgram(program) {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    if (folder === '') continue;
    const path = join(folder, program);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      continue; // not in this folder of PATH
    }
  }
  return null;
}

/** @param {string} version as QEMU says it, or a package's: `1:10.0.2+ds-2` */
function isNewEnough(version) {
  const [major = 0, minor = 0] = version
    .replace(/^\d+:/, '')
    .split('.')
    .map((part) => Number.parseInt(part, 10));
  return major > QEMU_LEAST[0] || (major === QEMU_LEAST[0] && minor >= QEMU_LEAST[1]);
}

/** @param {string} program */
const qemuIsNewEnough = (program) => isNewEnough(/version (\S+)/.exec(firstLineOf(program, ['--version']) ?? '')?.[1] ?? '0.0');
const anyExists = (/** @type {string[]} */ ...paths) => paths.some((path) => existsSync(path));
const staticLibc = () =>
  anyExists('/usr/lib/x86_64-linux-gnu/libc.a', '/usr/lib/aarch64-linux-gnu/libc.a', '/usr/lib64/libc.a', '/usr/lib/libc.a');

/** What is needed: how to see that it is there, the package that has it, and what for. `qemu` = from backports where the release is too old. */
const needed = [
  {
    what: `qemu-system-x86_64 >= ${QEMU_LEAST.join('.')}`,
    has: () => qemuIsNewEnough('qemu-system-x86_64'),
    packages: ['qemu-system-x86'],
    why: 'to run virtual machines',
    qemu: true,
  },
  {
    what: `qemu-img and qemu-storage-daemon >= ${QEMU_LEAST.join('.')}`,
    has: () => qemuIsNewEnough('qemu-img') && qemuIsNewEnough('qemu-storage-daemon'),
    packages: ['qemu-utils'],
    why: 'to check disks with a reader that is not ours',
    qemu: true,
  },
  {
    what: 'OVMF',
    has: () => anyExists('/usr/share/OVMF/OVMF_CODE_4M.fd', '/usr/share/OVMF/OVMF_CODE.fd'),
    packages: ['ovmf'],
    why: 'firmware of generation 2 machines',
  },
  {
    what: 'a C compiler',
    has: () => findProgram('cc') !== null,
    packages: ['gcc'],
    why: 'cargo links with it; it compiles the test guest',
  },
  { what: 'a static C library', has: staticLibc, packages: ['libc6-dev'], why: 'the test guest is one static program' },
  { what: 'xz', has: () => findProgram('xz') !== null, packages: ['xz-utils'], why: 'unpacks the PowerShell bundle and kernel modules' },
  { what: 'nbdkit', has: () => findProgram('nbdkit') !== null, packages: ['nbdkit'], why: 'peer in the NBD tests' },
  {
    what: 'nbdinfo and nbdcopy',
    has: () => findProgram('nbdinfo') !== null && findProgram('nbdcopy') !== null,
    packages: ['libnbd-bin'],
    why: 'peers in the NBD tests',
  },
  { what: 'fio', has: () => findProgram('fio') !== null, packages: ['fio'], why: 'load in the NBD tests and the bench' },
  {
    what: 'xxhsum',
    has: () => findProgram('xxhsum') !== null,
    packages: ['xxhash'],
    why: 'recomputes receipts with a tool that is not ours',
  },
  {
    what: 'mkfs.xfs and mkfs.btrfs',
    has: () => findProgram('mkfs.xfs') !== null && findProgram('mkfs.btrfs') !== null,
    packages: ['xfsprogs', 'btrfs-progs'],
    why: 'make the destinations of the tests of slow and hanging file systems',
  },
  {
    what: 'mformat and mcopy',
    has: () => findProgram('mformat') !== null && findProgram('mcopy') !== null,
    packages: ['mtools'],
    why: 'make the disk that UEFI firmware boots from in the tests',
  },
  {
    what: 'systemd-analyze',
    has: () => findProgram('systemd-analyze') !== null,
    packages: ['systemd'],
    why: "checks the service's unit in the tests",
  },
  {
    what: 'Chromium',
    has: () => findProgram('chromium-headless-shell') !== null || findProgram('chromium') !== null,
    packages: ['chromium-headless-shell'],
    why: "opens the wizard's page in the tests",
  },
];

const missing = () => needed.filter((need) => !need.has());
const programPaths = [
  'qemu-system-x86_64',
  'qemu-img',
  'qemu-storage-daemon',
  'cc',
  'xz',
  'nbdkit',
  'nbdinfo',
  'nbdcopy',
  'fio',
  'xxhsum',
  'mkfs.xfs',
  'mkfs.btrfs',
  'mformat',
  'mcopy',
  'systemd-analyze',
  'chromium-headless-shell',
  'chromium',
];
/** Changes when one of the programs is installed, removed or replaced: asking each for its version costs too much for every run. */
const identity = () =>
  programPaths
    .map((program) => {
      const path = findProgram(program);
      return path === null ? `${program} -` : `${path} ${statSync(path).size} ${statSync(path).mtimeMs}`;
    })
    .concat(
      String(anyExists('/usr/share/OVMF/OVMF_CODE_4M.fd', '/usr/share/OVMF/OVMF_CODE.fd')),
      String(staticLibc()),
      JSON.stringify(needed.map(({ what }) => what)),
    )
    .join('\n');

function release() {
  if (!existsSync('/etc/os-release')) return {};
  return Object.fromEntries(
    [...readFileSync('/etc/os-release', 'utf8').matchAll(/^(\w+)="?([^"\n]*)"?$/gm)].map((match) => [match[1], match[2]]),
  );
}
export const isDebian = () => release().ID === 'debian' && findProgram('apt-get') !== null;
const isRoot = () => process.getuid?.() === 0;
export const NO_INSTALL = 'VMSTORAGE_NO_INSTALL';
/** `--no-install` sets the variable, so that what the set-up starts knows it too. */
const isForbidden = () => (process.env[NO_INSTALL] ?? '') !== '';
export const mayInstall = () => isDebian() && isRoot() && !isForbidden();
const SOURCES = '/etc/apt/sources.list.d/vmstorage-backports.sources';

/** QEMU in the release is too old, as far as the lists say that are there: then a source of packages is added to this machine. */
function needsBackports(/** @type {typeof needed} */ lacking) {
  const qemu = asPackages(lacking.filter((need) => need.qemu));
  if (qemu.every((name) => isNewEnough(candidate(name) ?? '0.0'))) return false;
  return !sources().some(({ suite }) => suite === `${release().VERSION_CODENAME}-backports`);
}

/** The first line of a run that changes this machine: all of it, and how to prevent it. */
function announcement(/** @type {typeof needed} */ lacking) {
  const source = needsBackports(lacking)
    ? `, adding the package source ${SOURCES} if the release itself has no QEMU ${QEMU_LEAST.join('.')}`
    : '';
  return `installing on this machine, as root: ${asPackages(lacking).join(' ')}${source}. To prevent it: ${NO_INSTALL}=1, or npm run setup -- --no-install`;
}

const asPackages = (/** @type {typeof needed} */ list) => [...new Set(list.flatMap((need) => need.packages))];
const asGaps = (/** @type {typeof needed} */ list, /** @type {string} */ how) =>
  list.map(
    (need) =>
      `missing: ${need.what}, needed ${need.why.startsWith('to ') ? need.why : `(${need.why})`}; ${how} (Debian: ${need.packages.join(' ')})`,
  );

/** @returns {string | null} version that would be installed from the sources as they are */
function candidate(/** @type {string} */ name) {
  const line = runProgram('look up a package', 'apt-cache', ['policy', name], { advice: 'repair apt', env: { LC_ALL: 'C' } })
    .split('\n')
    .find((text) => text.includes('Candidate:'));
  const version = line?.split(':').slice(1).join(':').trim();
  return version === undefined || version === '(none)' ? null : version;
}
function sources() {
  return runProgram(
    'list the package sources',
    'apt-get',
    ['indextargets', '--format', '$(REPO_URI) $(RELEASE) $(COMPONENT)', 'Created-By: Packages'],
    { advice: 'repair the files in /etc/apt' },
  )
    .split('\n')
    .map((line) => line.split(' '))
    .map(([uri, suite, component]) => ({ uri, suite, component }));
}

/** Makes sure that the release's backports are among the sources; returns the name to give to apt-get -t. */
function withBackports() {
  const codename = release().VERSION_CODENAME;
  const backports = `${codename}-backports`;
  const targets = sources();
  if (targets.some(({ suite }) => suite === backports)) return backports;
  const mirror = targets.find(({ suite, component }) => suite === codename && component === 'main')?.uri;
  if (!mirror)
    throw new SetupFailure(
      'install QEMU from backports',
      `no package source for ${codename} is configured`,
      'add one to /etc/apt/sources.list.d',
    );
  const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
  const lines = [
    '# The same mirror as the release itself; added by the set-up of vmstorage for QEMU 9.2 or newer.',
    'Types: deb',
    `URIs: ${mirror}`,
    `Suites: ${backports}`,
    'Components: main',
    ...(existsSync(keyring) ? [`Signed-By: ${keyring}`] : []),
  ];
  console.error(`setup: Debian packages: adding the package source ${SOURCES} (delete it when you do not want it)`);
  writeFileSync(SOURCES, `${lines.join('\n')}\n`);
  return backports;
}

const quietApt = { DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C.UTF-8' };
const aptGet = (/** @type {string} */ asked, /** @type {string[]} */ ...args) =>
  runProgram(asked, 'apt-get', ['-o', 'DPkg::Lock::Timeout=300', '-o', 'Acquire::Retries=3', ...args], {
    env: quietApt,
    advice: 'see what apt-get says, then run it by hand; or install the named packages yourself',
  });

/** An unreachable source that is not needed must not stop the rest: what is then missing shows when it is installed. */
export function updateLists() {
  try {
    aptGet('refresh the package lists', 'update');
  } catch (error) {
    if (!(error instanceof SetupFailure)) throw error;
    console.error(`setup: Debian packages: not every package list could be refreshed; going on\n${error.message}`);
  }
}

/** @type {import('./step.mjs').Step} */
export const debianStep = {
  name: 'Debian packages',
  pending() {
    if (isStamped('debian', identity(), [])) return null;
    const lacking = missing();
    if (lacking.length > 0 && mayInstall()) return announcement(lacking);
    if (lacking.length === 0) stamp('debian', identity());
    return null;
  },
  gaps: () =>
    isStamped('debian', identity(), [])
      ? []
      : asGaps(missing(), isForbidden() ? 'it is not installed by us, as you said' : isDebian() ? 'install it as root' : 'install it'),
  run() {
    const lacking = missing();
    const qemu = asPackages(lacking.filter((need) => need.qemu));
    const others = asPackages(lacking.filter((need) => !need.qemu));
    updateLists();
    if (qemu.length > 0) {
      // Every package that is asked for, not one that stands for all: a tool that was installed by hand is its own candidate, from no source.
      const enough = qemu.every((name) => isNewEnough(candidate(name) ?? '0.0'));
      const from = enough ? [] : ['-t', withBackports()];
      if (!enough) updateLists();
      aptGet(`install ${qemu.join(' ')}`, 'install', '-y', '--no-remove', '--no-install-recommends', ...from, ...qemu);
    }
    if (others.length > 0) aptGet(`install ${others.join(' ')}`, 'install', '-y', '--no-remove', '--no-install-recommends', ...others);
    const still = missing();
    if (still.length === 0) stamp('debian', identity());
    return asGaps(still, 'its package was installed, yet it is not found');
  },
};
