// The load: writers that put versioned blocks on the disks, read some back at once and check them.
//
//   disk_open    -> finds what an earlier boot left on the disk and goes on from there
//   load_start   -> `queue_depth` writers per disk
//   load_report  -> once a second: one line per disk
//   load_stop    -> every writer has finished its request; nothing is in flight
//   disk_verify, disk_tell_versions
//
// Writer t of a disk stays on processor `t % processors`, so that every queue of the disk is loaded, and owns the blocks with `block % queue_depth == t`. So one version of a block is in flight at most, and a
// read must return exactly the version that was acknowledged last.
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include "histogram.h"

enum { MAX_DISKS = 8, MAX_WRITERS = 256 };
enum request { READ, WRITE, FLUSH, REQUESTS };
// A write of this block failed: the old or the new version may be on the disk. The block is left alone from then on.
#define VERSION_UNSURE UINT32_MAX

struct disk {
    char name[16];
    int fd;
    uint32_t number;                  // goes into every block
    uint64_t size_bytes, blocks;      // blocks: the part that is worked on
    uint32_t *acknowledged;           // last acknowledged version of each block, 0 = never written; each entry has one owner
    pthread_mutex_t lock;             // guards latency
    struct histogram latency[REQUESTS];
    atomic_uint_fast64_t completed, errors, mismatches;
    atomic_int waiting;
    uint64_t completed_at_tick;       // owned by the tick thread
    int stall_ms;                     // owned by the tick thread
    atomic_int stall_ms_max;
};

struct load {
    int queue_depth;                  // writers per disk
    int read_percent;                 // share of reads, of blocks already written
    int writes_per_flush;             // fdatasync after so many writes of a writer; 0 = never
    int requests_per_second;          // per disk; 0 = as fast as possible
};

extern struct disk disks[MAX_DISKS];
extern int disk_count;

// Opens /dev/<name>, works on its first `span_bytes` (0 = all) and adopts the blocks already there. 0, or an errno.
int disk_open(const char *name, uint64_t span_bytes, int adopt);
void load_start(const struct load *how);
void load_report(long second);
void load_stop(void);
// Reads every block that was ever acknowledged and compares all of it.
void disk_verify(struct disk *d);
// Prints the version of every block, so that the host can check the image without the guest.
void disk_tell_versions(struct disk *d, int final);
