// Latencies in microseconds: 8 linear steps per power of two, so a percentile is right within 12 %; the maximum is exact.
#pragma once
#include <stdint.h>

enum { HISTOGRAM_BUCKETS = 512 };
struct histogram { uint32_t bucket[HISTOGRAM_BUCKETS]; uint64_t count, max; };

static inline void histogram_add(struct histogram *h, uint64_t us) {
    int exponent = us < 8 ? 0 : 63 - __builtin_clzll(us);
    h->bucket[exponent ? (exponent - 2) * 8 + (int)((us >> (exponent - 3)) & 7) : (int)us]++;
    h->count++;
    if (us > h->max) h->max = us;
}

// The lower edge of the bucket that holds the share `p` (0..1) of all entries.
static inline uint64_t histogram_percentile(const struct histogram *h, double p) {
    uint64_t want = (uint64_t)((double)h->count * p), seen = 0;
    for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++)
        if ((seen += h->bucket[b]) > want) return b < 8 ? b : (8ull + b % 8) << (b / 8 - 1);
    return h->max;
}
