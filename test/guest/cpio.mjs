/**
 * A writer of cpio archives in the "newc" form, as Linux wants an initramfs (Documentation/driver-api/early-userspace/buffer-format.rst):
 * per entry a header of "070701" and 13 eight-digit hexadecimal fields, the name, and the content, each padded to 4 bytes.
 * Device nodes are only numbers here, so neither root nor cpio(1) is needed. Times and inode numbers are fixed: the same
 * input gives the same bytes.
 */

const FILE = 0o100000;
const FOLDER = 0o040000;
const CHARACTER_DEVICE = 0o020000;

/** @typedef {{ name: string, mode: number, content?: Buffer, device?: [major: number, minor: number] }} Entry */

/** @param {string} name */
export const folder = (name) => ({ name, mode: FOLDER | 0o755 });
/** @param {string} name @param {Buffer} content @param {number} [permissions] */
export const file = (name, content, permissions = 0o644) => ({ name, mode: FILE | permissions, content });
/** @param {string} name @param {number} major @param {number} minor */
export const characterDevice = (name, major, minor) => ({
  name,
  mode: CHARACTER_DEVICE | 0o600,
  device: /** @type {[number, number]} */ ([major, minor]),
});

/** @param {Entry[]} entries folders before what is in them @returns {Buffer} */
export function cpio(entries) {
  const parts = [];
  const padded = (/** @type {Buffer} */ bytes) => parts.push(bytes, Buffer.alloc(-bytes.length & 3));
  [...entries, { name: 'TRAILER!!!', mode: 0 }].forEach(({ name, mode, content = Buffer.alloc(0), device = [0, 0] }, index) => {
    const links = mode >> 12 === FOLDER >> 12 ? 2 : 1;
    const fields = [index + 1, mode, 0, 0, links, 0, content.length, 0, 0, device[0], device[1], name.length + 1, 0];
    padded(Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}${name}\0`));
    padded(content);
  });
  return Buffer.concat(parts);
}
