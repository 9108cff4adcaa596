/**
 * The test guest: Debian's cloud kernel, downloaded and unpacked into .cache/guest/kernel (nothing is installed: this machine
 * keeps its own kernel), and our initrd. The cloud flavour boots in 3 s under emulation, the ordinary one in 8.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { buildInitrd, guestInputs, guestModules } from '../../test/guest/build.mjs';
import { findProgram, isDebian, mayInstall, updateLists } from './debian.mjs';
import { cache, filesBelow, hashOf, isStamped, runProgram, SetupFailure, stamp } from './step.mjs';

const guest = join(cache, 'guest');
const kernel = join(guest, 'kernel');
const vmlinuz = join(kernel, 'vmlinuz');
const FLAVOUR = 'linux-image-cloud-amd64';
const asked = "get the test guest's kernel";
const advice = `put a kernel with its virtio modules into ${kernel} (vmlinuz, modules/*.ko), or try again when the package mirror is reachable`;
const canDownload = () => isDebian() && process.arch === 'x64' && findProgram('dpkg-deb') !== null;

/** The real package behind the flavour's name, or null when the package lists do not know it. */
function kernelPackage() {
  const done = spawnSync('apt-cache', ['depends', FLAVOUR], { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } });
  return /Depends: (linux-image-\S+)/.exec(done.stdout ?? '')?.[1] ?? null;
}

/** @type {import('./step.mjs').Step} */
export const kernelStep = {
  name: 'guest kernel',
  pending: () => (existsSync(vmlinuz) || !canDownload() ? null : 'downloading'),
  gaps: () =>
    existsSync(vmlinuz) ? [] : [`missing: a kernel for the test guest (only Debian on x86-64 downloads it by itself); ${advice}`],
  run() {
    if (kernelPackage() === null && mayInstall()) updateLists();
    const name = kernelPackage();
    if (name === null) return [`missing: a kernel for the test guest: ${FLAVOUR} is in no package list; ${advice}`];
    mkdirSync(guest, { recursive: true });
    const scratch = mkdtempSync(join(guest, 'download-'));
    try {
      runProgram(asked, 'apt-get', ['-o', 'Acquire::Retries=3', '-o', 'APT::Sandbox::User=root', 'download', name], {
        cwd: scratch,
        advice,
      });
      const archive = readdirSync(scratch).find((file) => file.endsWith('.deb'));
      if (archive === undefined) throw new SetupFailure(asked, `apt-get download ${name} left no package`, advice);
      const wanted = ['./boot/vmlinuz-*', ...guestModules.map((module) => `*/${module}.ko*`)];
      runProgram(
        asked,
        'sh',
        [
          '-c',
          'archive=$1; shift; dpkg-deb --fsys-tarfile "$archive" > all.tar && tar -xf all.tar --wildcards "$@" 2> tar.log; rm all.tar',
          'sh',
          archive,
          ...wanted,
        ],
        { cwd: scratch, advice },
      );
      const files = filesBelow([join(scratch, 'boot'), join(scratch, 'lib'), join(scratch, 'usr')]);
      const image = files.find((file) => basename(file).startsWith('vmlinuz-'));
      if (image === undefined) throw new SetupFailure(asked, `${archive} holds no kernel`, advice);
      mkdirSync(join(scratch, 'kernel/modules'), { recursive: true });
      for (const file of files.filter((path) => /\.ko(\.xz)?$/.test(path))) {
        if (file.endsWith('.xz')) runProgram(asked, 'xz', ['-d', file], { advice });
        const plain = file.replace(/\.xz$/, '');
        renameSync(plain, join(scratch, 'kernel/modules', basename(plain)));
      }
      renameSync(image, join(scratch, 'kernel/vmlinuz'));
      writeFileSync(join(scratch, 'kernel/release'), `${basename(image).slice('vmlinuz-'.length)}\n`);
      rmSync(kernel, { recursive: true, force: true });
      renameSync(join(scratch, 'kernel'), kernel);
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
    return [];
  },
};

const initrdHash = () =>
  hashOf(
    [...guestInputs, ...filesBelow([join(kernel, 'modules')])],
    [existsSync(join(kernel, 'release')) ? readFileSync(join(kernel, 'release'), 'utf8') : ''],
  );

/** @type {import('./step.mjs').Step} */
export const initrdStep = {
  name: 'guest initrd',
  pending: () => (!existsSync(vmlinuz) || isStamped('initrd', initrdHash(), [join(guest, 'initrd.cpio')]) ? null : 'compiling'),
  run() {
    if (findProgram(process.env.CC ?? 'cc') === null) return ['missing: a C compiler for the test guest'];
    const hash = initrdHash();
    buildInitrd(guest);
    stamp('initrd', hash);
    return [];
  },
};
