// The block that the guest writes, and the only definition of it in C. The host's reader (scripts/guest-blocks.ts) states the
// same layout in TypeScript; both are held together by the system test that boots this guest and reads its disks from outside.
//
//   offset  bytes  field    (little endian)
//        0      4  magic    0x534d5642, "BVMS"
//        4      4  disk     number of the disk: vda 0, vdb 1, ...
//        8      8  block    number of the block on its disk; the block starts at byte block * 4096
//       16      4  version  1 for the first write of this block, 2 for the second, ...
//       20      4  check    seed >> 32
//       24   4072  fill     64-bit word i of the block (i = 3 .. 511) is seed + i, modulo 2^64
//
//   seed = (version << 40 ^ block << 4 ^ disk) * 0x9e3779b97f4a7c15, modulo 2^64
//
// So every byte follows from (disk, block, version): a torn, shifted, swapped or stale block is told apart from a right one,
// and by its header also what it is instead. A block that was never written is all zero.
#pragma once
#include <stdint.h>

enum { BLOCK_MAGIC = 0x534d5642, BLOCK_BYTES = 4096, BLOCK_WORDS = BLOCK_BYTES / 8 };

struct block {
    uint32_t magic, disk;
    uint64_t number;
    uint32_t version, check;
    uint64_t fill[BLOCK_WORDS - 3];
};
_Static_assert(sizeof(struct block) == BLOCK_BYTES, "the layout above");

static inline uint64_t block_seed(uint32_t disk, uint64_t number, uint32_t version) {
    return ((uint64_t)version << 40 ^ number << 4 ^ disk) * 0x9e3779b97f4a7c15ull;
}

static inline void block_make(struct block *b, uint32_t disk, uint64_t number, uint32_t version) {
    uint64_t seed = block_seed(disk, number, version);
    b->magic = BLOCK_MAGIC, b->disk = disk, b->number = number, b->version = version, b->check = (uint32_t)(seed >> 32);
    for (unsigned i = 3; i < BLOCK_WORDS; i++) b->fill[i - 3] = seed + i;
}

// Whether every byte of `b` is that of (disk, number, version).
static inline int block_is(const struct block *b, uint32_t disk, uint64_t number, uint32_t version) {
    uint64_t seed = block_seed(disk, number, version), wrong = 0;
    for (unsigned i = 3; i < BLOCK_WORDS; i++) wrong |= b->fill[i - 3] ^ (seed + i);
    return !wrong && b->magic == BLOCK_MAGIC && b->disk == disk && b->number == number && b->version == version &&
           b->check == (uint32_t)(seed >> 32);
}

static inline int block_is_zero(const struct block *b) {
    const uint64_t *word = (const uint64_t *)b;
    uint64_t any = 0;
    for (unsigned i = 0; i < BLOCK_WORDS; i++) any |= word[i];
    return !any;
}
