// The load and its checks; load.h says how it is cut.
#define _GNU_SOURCE
#include "load.h"
#include "block.h"
#include "console.h"
#include "queues.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum {
    SCAN_BLOCKS = 64,                 // 256 KiB per read while scanning: 4 KiB reads would take 6 s per 64 MiB under TCG
    LATE_US = 1000,                   // a tick later than this says that the guest itself did not run
    TOLD_EACH = 5,                    // errors and mismatches printed one by one, per disk; all are counted
    VERSIONS_PER_LINE = 512,
    BEHIND_US = 1000000,              // a writer so far behind its schedule starts afresh instead of catching up in a burst
};

struct disk disks[MAX_DISKS];
int disk_count;
static struct load load;
static struct { struct disk *disk; uint64_t number; pthread_t thread; } writers[MAX_WRITERS];
static int writer_count;
static pthread_t tick_thread;
static atomic_int stopping;
static atomic_uint_fast64_t tick_late_max;

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}
static void sleep_us(uint64_t us) {
    struct timespec t = { (time_t)(us / 1000000), (long)(us % 1000000) * 1000 };
    clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}
static void *aligned(size_t bytes) {
    void *p = NULL;
    if (posix_memalign(&p, BLOCK_BYTES, bytes)) say("{\"ev\":\"fatal\",\"text\":\"out of memory\"}"), abort();
    return p;
}

static void failed(struct disk *d, const char *what, uint64_t block, int error) {
    if (atomic_fetch_add(&d->errors, 1) < TOLD_EACH)
        say("{\"ev\":\"error\",\"disk\":\"%s\",\"op\":\"%s\",\"block\":%" PRIu64 ",\"errno\":%d}", d->name, what, block, error);
}
static void compare(struct disk *d, uint64_t number, const struct block *got, const char *when) {
    if (block_is(got, d->number, number, d->acknowledged[number]) || atomic_fetch_add(&d->mismatches, 1) >= TOLD_EACH) return;
    say("{\"ev\":\"mismatch\",\"disk\":\"%s\",\"when\":\"%s\",\"block\":%" PRIu64 ",\"want\":%u,\"got\":%u,\"gotDisk\":%u,\"gotBlock\":%" PRIu64
        ",\"ours\":%s,\"zero\":%s}", d->name, when, number, d->acknowledged[number], got->version, got->disk, got->number,
        got->magic == BLOCK_MAGIC ? "true" : "false", block_is_zero(got) ? "true" : "false");
}

static void completed(struct disk *d, enum request kind, uint64_t us) {
    pthread_mutex_lock(&d->lock);
    histogram_add(&d->latency[kind], us);
    pthread_mutex_unlock(&d->lock);
    atomic_fetch_add(&d->completed, 1);
    atomic_fetch_sub(&d->waiting, 1);
}

// One timed request. Returns 0 or an errno; a short transfer is an I/O error.
static int request(struct disk *d, enum request kind, uint64_t number, void *buffer) {
    atomic_fetch_add(&d->waiting, 1);
    uint64_t start = now_us();
    off_t at = (off_t)(number * BLOCK_BYTES);
    ssize_t n = kind == FLUSH ? fdatasync(d->fd) : kind == READ ? pread(d->fd, buffer, BLOCK_BYTES, at) : pwrite(d->fd, buffer, BLOCK_BYTES, at);
    int error = n < 0 ? errno : kind != FLUSH && n != BLOCK_BYTES ? EIO : 0;
    completed(d, kind, now_us() - start);
    return error;
}

static void *write_blocks(void *arg) {
    uint64_t self = (uint64_t)(uintptr_t)arg, number = writers[self].number, error;
    struct disk *d = writers[self].disk;
    struct block *buffer = aligned(BLOCK_BYTES);
    uint64_t due = now_us(), random = (self + 1) * 0x9e3779b97f4a7c15ull ^ due << 20;     // other blocks at every boot
    uint64_t step = load.requests_per_second ? 1000000ull * (uint64_t)load.queue_depth / (uint64_t)load.requests_per_second : 0;
    for (int writes = 0; !stopping;) {
        if (step) {
            uint64_t t = now_us();
            if (t < due) sleep_us(due - t);
            due = (t > due + BEHIND_US ? t : due) + step;
        }
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        uint64_t block = (random >> 20) % (d->blocks / (uint64_t)load.queue_depth) * (uint64_t)load.queue_depth + number;
        uint32_t version = d->acknowledged[block];
        if (version == VERSION_UNSURE) continue;
        if (version && (int)((random >> 8) % 100) < load.read_percent) {
            if ((error = (uint64_t)request(d, READ, block, buffer))) failed(d, "read", block, (int)error);
            else compare(d, block, buffer, "running");
            continue;
        }
        block_make(buffer, d->number, block, version + 1);
        if ((error = (uint64_t)request(d, WRITE, block, buffer))) failed(d, "write", block, (int)error), d->acknowledged[block] = VERSION_UNSURE;
        else d->acknowledged[block] = version + 1;
        if (load.writes_per_flush && ++writes % load.writes_per_flush == 0 && (error = (uint64_t)request(d, FLUSH, 0, NULL)))
            failed(d, "flush", 0, (int)error);
    }
    free(buffer);
    return NULL;
}

// Sleeps 1 ms again and again. Its lateness is this guest's CPU starvation; on its punctual ticks it counts, per disk, for
// how long requests were waiting and none completed: milliseconds of storage silence that the guest itself lived through.
static void *tick(void *unused) {
    while (!stopping) {
        uint64_t before = now_us();
        sleep_us(1000);
        uint64_t late = now_us() - before - 1000;
        if (late > tick_late_max) tick_late_max = late;
        for (struct disk *d = disks; d < disks + disk_count; d++) {
            uint64_t done = d->completed;
            if (!d->waiting || done != d->completed_at_tick) d->stall_ms = 0;
            else if (late < LATE_US && ++d->stall_ms > d->stall_ms_max) d->stall_ms_max = d->stall_ms;
            d->completed_at_tick = done;
        }
    }
    return unused;
}

// A processor submits to its own queue: only writers that stay on a processor each load every queue, whatever the scheduler likes.
static void stay_on(pthread_t thread, long number) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)(number % sysconf(_SC_NPROCESSORS_ONLN)), &one);
    if (pthread_setaffinity_np(thread, sizeof one, &one)) say("{\"ev\":\"fatal\",\"text\":\"a writer cannot be bound to a processor\"}");
}

void load_start(const struct load *how) {
    load = *how;
    stopping = 0;
    pthread_create(&tick_thread, NULL, tick, NULL);
    for (writer_count = 0; writer_count < disk_count * load.queue_depth && writer_count < MAX_WRITERS; writer_count++) {
        writers[writer_count].disk = &disks[writer_count / load.queue_depth];
        writers[writer_count].number = (uint64_t)(writer_count % load.queue_depth);
        pthread_create(&writers[writer_count].thread, NULL, write_blocks, (void *)(uintptr_t)writer_count);
        stay_on(writers[writer_count].thread, (long)writers[writer_count].number);
    }
}

void load_stop(void) {
    stopping = 1;
    while (writer_count) pthread_join(writers[--writer_count].thread, NULL);
    pthread_join(tick_thread, NULL);
}

void load_report(long second) {
    uint64_t tick_us = atomic_exchange(&tick_late_max, 0);
    for (struct disk *d = disks; d < disks + disk_count; d++) {
        struct histogram h[REQUESTS];
        uint64_t before = d->size_bytes;
        if (ioctl(d->fd, BLKGETSIZE64, &d->size_bytes) == 0 && before != d->size_bytes)
            say("{\"ev\":\"resized\",\"disk\":\"%s\",\"bytes\":%" PRIu64 "}", d->name, d->size_bytes);
        pthread_mutex_lock(&d->lock);
        memcpy(h, d->latency, sizeof h);
        memset(d->latency, 0, sizeof d->latency);
        pthread_mutex_unlock(&d->lock);
        say("{\"t\":%ld,\"disk\":\"%s\",\"r\":%" PRIu64 ",\"w\":%" PRIu64 ",\"f\":%" PRIu64 ",\"rp50\":%" PRIu64 ",\"rp99\":%" PRIu64
            ",\"rmax\":%" PRIu64 ",\"wp50\":%" PRIu64 ",\"wp99\":%" PRIu64 ",\"wmax\":%" PRIu64 ",\"fp99\":%" PRIu64 ",\"fmax\":%" PRIu64
            ",\"err\":%" PRIuFAST64 ",\"bad\":%" PRIuFAST64 ",\"tick\":%" PRIu64 ",\"stall\":%d}",
            second, d->name, h[READ].count, h[WRITE].count, h[FLUSH].count, histogram_percentile(&h[READ], .5), histogram_percentile(&h[READ], .99),
            h[READ].max, histogram_percentile(&h[WRITE], .5), histogram_percentile(&h[WRITE], .99), h[WRITE].max,
            histogram_percentile(&h[FLUSH], .99), h[FLUSH].max, atomic_load(&d->errors), atomic_load(&d->mismatches), tick_us,
            atomic_exchange(&d->stall_ms_max, 0));
    }
}

typedef void visit(struct disk *d, uint64_t number, const struct block *b);

// Reads the blocks that `wanted` chooses, in big pieces where it can; a piece that fails is read block by block.
static void scan(struct disk *d, const char *what, int only_written, visit *found) {
    struct block *piece = aligned(SCAN_BLOCKS * BLOCK_BYTES);
    for (uint64_t first = 0; first < d->blocks; first += SCAN_BLOCKS) {
        uint64_t count = d->blocks - first < SCAN_BLOCKS ? d->blocks - first : SCAN_BLOCKS, wanted = 0;
        for (uint64_t i = 0; i < count; i++) wanted += !only_written || (d->acknowledged[first + i] && d->acknowledged[first + i] != VERSION_UNSURE);
        if (!wanted) continue;
        size_t bytes = count * BLOCK_BYTES;
        int whole = pread(d->fd, piece, bytes, (off_t)(first * BLOCK_BYTES)) == (ssize_t)bytes;
        for (uint64_t i = 0; i < count; i++) {
            uint32_t version = d->acknowledged[first + i];
            if (only_written && (!version || version == VERSION_UNSURE)) continue;
            if (!whole && pread(d->fd, piece + i, BLOCK_BYTES, (off_t)((first + i) * BLOCK_BYTES)) != BLOCK_BYTES) failed(d, what, first + i, errno);
            else found(d, first + i, piece + i);
        }
    }
    free(piece);
}

static uint64_t adopted, foreign;
static void adopt_block(struct disk *d, uint64_t number, const struct block *b) {
    if (b->magic == BLOCK_MAGIC) {
        d->acknowledged[number] = b->version;
        compare(d, number, b, "adopting");
        adopted++;
    } else if (!block_is_zero(b)) foreign++;
}

static uint64_t verified;
static void verify_block(struct disk *d, uint64_t number, const struct block *b) {
    compare(d, number, b, "verifying");
    verified++;
}
void disk_verify(struct disk *d) {
    verified = 0;
    scan(d, "verify", 1, verify_block);
    say("{\"ev\":\"verified\",\"disk\":\"%s\",\"blocks\":%" PRIu64 ",\"err\":%" PRIuFAST64 ",\"bad\":%" PRIuFAST64 "}", d->name, verified,
        atomic_load(&d->errors), atomic_load(&d->mismatches));
}

// FNV-1a, 64 bits, over (block as 8 bytes, version as 4 bytes), little endian, of every block with a version.
static uint64_t hash_versions(const uint32_t *versions, uint64_t count) {
    uint64_t hash = 0xcbf29ce484222325ull;
    for (uint64_t b = 0; b < count; b++)
        for (int i = 0; versions[b] && i < 12; i++)
            hash = (hash ^ (i < 8 ? b >> 8 * i & 255 : (uint64_t)versions[b] >> 8 * (i - 8) & 255)) * 0x100000001b3ull;
    return hash;
}

// Lines of 512 versions as runs ("0*37,1,1,2"; "?" = unsure), then one that closes the table with its hash. While writers run
// the table is a lower bound: a block may already hold more.
void disk_tell_versions(struct disk *d, int final) {
    uint32_t *copy = malloc(d->blocks * sizeof *copy);
    char line[VERSIONS_PER_LINE * 12 + 1];
    if (!copy) return (void)say("{\"ev\":\"fatal\",\"text\":\"out of memory\"}");
    memcpy(copy, d->acknowledged, d->blocks * sizeof *copy);
    for (uint64_t first = 0; first < d->blocks; first += VERSIONS_PER_LINE) {
        uint64_t end = first + VERSIONS_PER_LINE < d->blocks ? first + VERSIONS_PER_LINE : d->blocks;
        int length = 0;
        for (uint64_t b = first, run; b < end; b += run) {
            for (run = 1; b + run < end && copy[b + run] == copy[b];) run++;
            if (b > first) line[length++] = ',';
            length += copy[b] == VERSION_UNSURE ? sprintf(line + length, "?") : sprintf(line + length, "%u", copy[b]);
            if (run > 1) length += sprintf(line + length, "*%" PRIu64, run);
        }
        say("{\"ev\":\"versions\",\"disk\":\"%s\",\"from\":%" PRIu64 ",\"runs\":\"%s\"}", d->name, first, line);
    }
    say("{\"ev\":\"table\",\"disk\":\"%s\",\"index\":%u,\"blocks\":%" PRIu64 ",\"hash\":\"%016" PRIx64 "\",\"final\":%s}", d->name, d->number,
        d->blocks, hash_versions(copy, d->blocks), final ? "true" : "false");
    free(copy);
}

int disk_open(const char *name, uint64_t span_bytes, int adopt) {
    struct disk *d = &disks[disk_count];
    char path[64], cache[32] = "";
    snprintf(path, sizeof path, "/dev/%s", name);
    if ((d->fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC)) < 0 || ioctl(d->fd, BLKGETSIZE64, &d->size_bytes)) return errno;
    snprintf(d->name, sizeof d->name, "%s", name);
    d->number = name[0] == 'v' && name[1] == 'd' && !name[3] ? (uint32_t)(name[2] - 'a') : (uint32_t)disk_count;
    d->blocks = (span_bytes && span_bytes < d->size_bytes ? span_bytes : d->size_bytes) / BLOCK_BYTES;
    if (!d->blocks) return ENOSPC;
    if (!(d->acknowledged = calloc(d->blocks, sizeof *d->acknowledged))) return ENOMEM;
    pthread_mutex_init(&d->lock, NULL);
    disk_count++;
    adopted = foreign = 0;
    if (adopt) scan(d, "adopt", 0, adopt_block);
    snprintf(path, sizeof path, "/sys/block/%s/queue/write_cache", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, cache, sizeof cache - 1);
    close(fd);
    cache[n > 0 ? n : 0] = 0, cache[strcspn(cache, "\n")] = 0;
    say("{\"ev\":\"disk\",\"disk\":\"%s\",\"index\":%u,\"bytes\":%" PRIu64 ",\"blocks\":%" PRIu64 ",\"cache\":\"%s\",\"adopted\":%" PRIu64
        ",\"foreign\":%" PRIu64 ",\"queues\":%d,\"err\":%" PRIuFAST64 ",\"bad\":%" PRIuFAST64 ",\"hash\":\"%016" PRIx64 "\"}",
        name, d->number, d->size_bytes, d->blocks, cache, adopted, foreign, queues_of(name), atomic_load(&d->errors), atomic_load(&d->mismatches),
        hash_versions(d->acknowledged, d->blocks));
    return 0;
}
