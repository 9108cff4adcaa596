/**
 * A boot sector that does what tells an accelerator that works from one that only opens: it enters 64-bit mode with paging on, counts
 * down from 100 million, and writes to QEMU's debug exit port. On a processor with hardware virtualisation that takes a tenth of a second; where
 * KVM interprets every instruction it takes minutes although /dev/kvm opens and a `hlt` runs.
 *
 * ```text
 * 7c00  cli; segments 0, stack below; page tables at 1000..3fff (2 MiB identity); CR3, CR4.PAE, EFER.LME, GDT, CR0.PG|PE; far jump
 * 7c6b  mov ecx, 100000000; dec ecx; jnz; mov al, 'K'; out 0xf4; hlt          7c80  GDT: null, 64-bit code; its pointer at 7c90
 * ```
 */
const CODE =
  'fa31c08ed88ec08ed0bc007cfcbf0010b90018f3ab66c70600100320000066c70600200330000066c70600308300000066b8001000000f22d866b8200000000f22e0' +
  '66b9800000c00f32660d000100000f300f20c0660d010000800f0116907c0f22c066ea6b7c00000800b900e1f505ffc975fcb04b66baf400eef4ebfd6690' +
  '000000000000000000000000009a20000f00807c0000';

/** isa-debug-exit makes QEMU's exit code of the byte written: (0x4b << 1) | 1. */
export const PROBE_EXIT_CODE = 0x97;
/** SeaBIOS does not boot from a disk shorter than a cylinder. */
const IMAGE_BYTES = 1024 * 1024;

export function probeImage(): Buffer {
  const image = Buffer.alloc(IMAGE_BYTES);
  Buffer.from(CODE, 'hex').copy(image);
  image.writeUInt16LE(0xaa55, 510);
  return image;
}
