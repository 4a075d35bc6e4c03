/*
 * page.h - the statistics page: all numbers of one handle in a small file that others read.
 *
 * It says itself what is in it, names, meanings and bounds included, so that a command of another
 * version reads it. Little-endian; entries begin at multiples of eight bytes:
 *
 *   0  "CISTSTAT"      8  version 1, u32     12  bytes of this head, u32 (128)
 *  16  bytes of all   24  pid, u32           28  number of the handle in its process, u32
 *  32  when the process started, in ticks since the boot   40  inode of its pid namespace
 *  48  boot clock of this update, ns         56  updates so far
 *  64  ms between them, u32  68  shard, u32  72  shards, u32  76  labels, u32  80  samples, u32
 *
 *   label:   bytes of key and value with their NUL, u16 each; key, value
 *   sample:  kind u8, bounds u8, bytes of name and help with their NUL u16 each, eighths of the
 *            whole entry u16; value (of a histogram: the sum) u64; name, help; bounds; counts, one
 *            more than bounds, each by itself
 *   end:     XXH3-64 of all before
 *
 * Who reads while the writer writes sees a wrong checksum and reads again. Pure functions.
 */
#ifndef METRICS_PAGE_H
#define METRICS_PAGE_H

#include "base/err.h"
#include "cistern.h"
#include "metrics/metrics.h"

#define PAGE_PREFIX       "cistern-stat-"
#define PAGE_ROOM         (64u << 10)  /* what an encoded page may take */
#define PAGE_MOST         (256u << 10) /* what a reader takes */
#define PAGE_LABELS_MOST  16u
#define PAGE_MOST_SAMPLES 512u

struct page_identity {
    uint32_t pid, handle, interval_ms, shard, shards;
    uint64_t start_ticks, pid_ns;
};

struct page_label {
    const char *key, *value;
};

/* What is in a page; strings and arrays point into its bytes. */
struct page {
    struct page_identity id;
    uint64_t updated_ns, updates;
    uint32_t nlabels, nsamples;
    struct page_label labels[PAGE_LABELS_MOST];
    struct cistern_sample samples[PAGE_MOST_SAMPLES];
};

struct page_update {
    uint64_t now_ns, updates;
};

/* Bytes of the page, or -ENOSPC. Bytes of labels that are no text become '?'. `buf` is aligned to
 * eight bytes. */
int64_t page_encode(void *buf, size_t size, const struct page_identity *id,
                    const struct page_label *labels, uint32_t nlabels,
                    const struct page_update *update, const struct metrics *m) MUST_CHECK;
/* -EBADMSG: torn, damaged or made up; -EPROTO: of another format. `buf` as above. */
int page_decode(const void *buf, size_t len, struct page *out) MUST_CHECK;
/* "" when there is none. */
const char *page_label(const struct page *p, const char *key);

#endif
