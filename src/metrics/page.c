/* page.c - see page.h. The reader trusts nothing: whoever may write the file may write anything. */
#include "metrics/page.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/bits.h"
#include "base/hash.h"
#include "base/le.h"

#define HEAD_BYTES   128u
#define SAMPLE_HEAD  16u
#define VERSION      1u
#define NAME_MOST    64u
#define TEXT_MOST    1024u
#define BUCKETS_MOST 64u

static const char magic[8] = {'C', 'I', 'S', 'T', 'S', 'T', 'A', 'T'};
/* A name with one of these ends could be taken for what is made of another one; so could one that
 * begins with "handle". */
static const char *const taken[] = {"_total", "_bucket",  "_count", "_sum",
                                    "_info",  "_seconds", "_ratio"};

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "arrays are used where they lie");

/* Bytes of the UTF-8 character at p that is printable; 0: there is none. */
static size_t text_step(const uint8_t *p, size_t len)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n, i;
    uint32_t c;

    if (p[0] < 0x80)
        return p[0] >= 0x20 && p[0] != 0x7f;
    n = (p[0] & 0xe0) == 0xc0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : (p[0] & 0xf8) == 0xf0 ? 4 : 0;
    if (!n || n > len)
        return 0;
    c = p[0] & (0x7fu >> n);
    for (i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    return c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) || c < 0xa0 ? 0 : n;
}

/* ---- Writing ---- */

struct out {
    uint8_t *at;
    size_t size, used;
    bool full;
};

static uint8_t *take(struct out *o, size_t n)
{
    uint8_t *p = o->at + o->used;

    if (o->full || n > o->size - o->used) {
        o->full = true;
        return NULL;
    }
    memset(p, 0, n);
    o->used += n;
    return p;
}

static size_t put_text(uint8_t *to, const char *text, size_t n)
{
    const uint8_t *from = (const uint8_t *)text;
    size_t i, step;

    for (i = 0; i + 1 < n; i += step) {
        step = text_step(from + i, n - 1 - i);
        if (step)
            memcpy(to + i, from + i, step);
        else
            to[i] = '?';
        step = step ? step : 1;
    }
    to[n - 1] = 0;
    return n;
}

static void put_label(struct out *o, const struct page_label *l)
{
    size_t key = strlen(l->key) + 1, value = min_u64(strlen(l->value) + 1, TEXT_MOST);
    uint8_t *p = take(o, round_up(4 + key + value, 8));

    if (!p)
        return;
    le16_store(p, (uint16_t)key);
    le16_store(p + 2, (uint16_t)value);
    p += 4 + put_text(p + 4, l->key, key);
    (void)put_text(p, l->value, value);
}

/* Room for a sample, its head and its words; where its arrays go, or NULL. */
static uint8_t *put_sample(struct out *o, enum metric_kind kind, uint32_t buckets, const char *name,
                           const char *help, uint64_t value)
{
    size_t n = strlen(name) + 1, h = min_u64(strlen(help) + 1, TEXT_MOST);
    size_t arrays = buckets ? 8 * (2 * (size_t)buckets + 1) : 0;
    size_t words = round_up(n + h, 8), all = SAMPLE_HEAD + words + arrays;
    uint8_t *p = take(o, all);

    if (!p)
        return NULL;
    p[0] = (uint8_t)kind;
    p[1] = (uint8_t)buckets;
    le16_store(p + 2, (uint16_t)n);
    le16_store(p + 4, (uint16_t)h);
    le16_store(p + 6, (uint16_t)(all / 8));
    le64_store(p + 8, value);
    (void)put_text(p + SAMPLE_HEAD, name, n);
    (void)put_text(p + SAMPLE_HEAD + n, help, h);
    return p + SAMPLE_HEAD + words;
}

static void put_histogram(struct out *o, enum histogram which, const struct histogram_value *h)
{
    uint8_t *p =
        put_sample(o, METRIC_IS_HISTOGRAM, METRIC_BUCKETS, histogram_name(which),
                   histogram_help(which), atomic_load_explicit(&h->sum, memory_order_relaxed));
    uint32_t i;

    if (!p)
        return;
    for (i = 0; i < METRIC_BUCKETS; i++)
        le64_store(p + 8 * i, histogram_bound(which, i));
    p += 8 * METRIC_BUCKETS;
    for (i = 0; i <= METRIC_BUCKETS; i++)
        le64_store(p + 8 * i, atomic_load_explicit(&h->bucket[i], memory_order_relaxed));
}

static void put_head(uint8_t *p, const struct page_identity *id, const struct page_update *update,
                     size_t bytes, uint32_t labels)
{
    memcpy(p, magic, sizeof magic);
    le32_store(p + 8, VERSION);
    le32_store(p + 12, HEAD_BYTES);
    le64_store(p + 16, bytes);
    le32_store(p + 24, id->pid);
    le32_store(p + 28, id->handle);
    le64_store(p + 32, id->start_ticks);
    le64_store(p + 40, id->pid_ns);
    le64_store(p + 48, update->now_ns);
    le64_store(p + 56, update->updates);
    le32_store(p + 64, id->interval_ms);
    le32_store(p + 68, id->shard);
    le32_store(p + 72, id->shards);
    le32_store(p + 76, labels);
    le32_store(p + 80, METRIC_COUNT + HISTOGRAM_COUNT);
}

int64_t page_encode(void *buf, size_t size, const struct page_identity *id,
                    const struct page_label *labels, uint32_t nlabels,
                    const struct page_update *update, const struct metrics *m)
{
    struct out o = {.at = buf, .size = size};
    uint8_t *head = take(&o, HEAD_BYTES), *end;
    uint32_t i;

    for (i = 0; i < nlabels; i++)
        put_label(&o, &labels[i]);
    for (i = 0; i < METRIC_COUNT; i++)
        (void)put_sample(&o, metric_is_gauge((enum metric)i) ? METRIC_IS_GAUGE : METRIC_IS_COUNTER,
                         0, metric_name((enum metric)i), metric_help((enum metric)i),
                         metric_get(m, (enum metric)i));
    for (i = 0; i < HISTOGRAM_COUNT; i++)
        put_histogram(&o, (enum histogram)i, &m->histogram[i]);
    end = take(&o, 8);
    if (!head || !end)
        return -ENOSPC;
    put_head(head, id, update, o.used, nlabels);
    le64_store(end, hash64(buf, o.used - 8));
    return (int64_t)o.used;
}

/* ---- Reading ---- */

struct in {
    const uint8_t *at;
    size_t len, used;
};

static const uint8_t *next(struct in *in, size_t n)
{
    const uint8_t *p = in->at + in->used;

    if (n > in->len - in->used)
        return NULL;
    in->used += n;
    return p;
}

/* n bytes of text and nothing else, with its NUL. */
static bool is_text(const uint8_t *p, size_t n, size_t most)
{
    size_t i, step;

    if (!n || n > most || p[n - 1])
        return false;
    for (i = 0; i + 1 < n; i += step) {
        step = text_step(p + i, n - 1 - i);
        if (!step)
            return false;
    }
    return true;
}

static bool is_name(const uint8_t *p, size_t n)
{
    size_t i, end;

    if (!n || n > NAME_MOST || p[n - 1] || p[0] < 'a' || p[0] > 'z' ||
        strncmp((const char *)p, "handle", 6) == 0)
        return false;
    for (i = 0; i + 1 < n; i++) {
        if (!(p[i] >= 'a' && p[i] <= 'z') && !(p[i] >= '0' && p[i] <= '9') && p[i] != '_')
            return false;
    }
    for (i = 0; i < ARRAY_LEN(taken); i++) {
        end = strlen(taken[i]);
        if (n - 1 >= end && memcmp(p + n - 1 - end, taken[i], end) == 0)
            return false;
    }
    return true;
}

static bool take_label(struct in *in, struct page_label *l)
{
    const uint8_t *p = next(in, 8); /* every entry has as many */
    size_t key, value;

    if (!p)
        return false;
    key = le16_load(p);
    value = le16_load(p + 2);
    if (!next(in, round_up(4 + key + value, 8) - 8) || key + value < 2 || !is_name(p + 4, key) ||
        !is_text(p + 4 + key, value, TEXT_MOST))
        return false;
    l->key = (const char *)p + 4;
    l->value = (const char *)p + 4 + key;
    return true;
}

static bool take_sample(struct in *in, struct cistern_sample *s)
{
    const uint8_t *p = next(in, SAMPLE_HEAD);
    size_t name, help, words, arrays, i;

    if (!p)
        return false;
    name = le16_load(p + 2);
    help = le16_load(p + 4);
    words = round_up(name + help, 8);
    arrays = p[1] ? 8 * (2 * (size_t)p[1] + 1) : 0;
    if (p[0] > METRIC_IS_HISTOGRAM || (p[0] == METRIC_IS_HISTOGRAM) != (p[1] != 0) ||
        p[1] > BUCKETS_MOST || le16_load(p + 6) * 8u != SAMPLE_HEAD + words + arrays ||
        !next(in, words + arrays) || !is_name(p + SAMPLE_HEAD, name) ||
        !is_text(p + SAMPLE_HEAD + name, help, TEXT_MOST))
        return false;
    *s = (struct cistern_sample){.name = (const char *)p + SAMPLE_HEAD,
                                 .help = (const char *)p + SAMPLE_HEAD + name,
                                 .kind = p[0],
                                 .buckets = p[1],
                                 .value = le64_load(p + 8)};
    if (arrays) {
        s->bounds = (const uint64_t *)(const void *)(p + SAMPLE_HEAD + words);
        s->counts = s->bounds + s->buckets;
    }
    for (i = 1; i < s->buckets; i++) {
        if (s->bounds[i] <= s->bounds[i - 1])
            return false;
    }
    return true;
}

static int take_head(const uint8_t *p, size_t len, struct page *out, size_t *head)
{
    if (len < HEAD_BYTES + 8 || len > PAGE_MOST || len % 8 || memcmp(p, magic, sizeof magic) != 0)
        return -EBADMSG;
    if (le32_load(p + 8) != VERSION)
        return -EPROTO;
    *head = le32_load(p + 12);
    if (le64_load(p + 16) != len || *head < HEAD_BYTES || *head > len - 8 || *head % 8 ||
        hash64(p, len - 8) != le64_load(p + len - 8))
        return -EBADMSG;
    out->id = (struct page_identity){.pid = le32_load(p + 24),
                                     .handle = le32_load(p + 28),
                                     .start_ticks = le64_load(p + 32),
                                     .pid_ns = le64_load(p + 40),
                                     .interval_ms = le32_load(p + 64),
                                     .shard = le32_load(p + 68),
                                     .shards = le32_load(p + 72)};
    out->updated_ns = le64_load(p + 48);
    out->updates = le64_load(p + 56);
    out->nlabels = le32_load(p + 76);
    out->nsamples = le32_load(p + 80);
    return out->nlabels <= PAGE_LABELS_MOST && out->nsamples <= PAGE_MOST_SAMPLES ? 0 : -EBADMSG;
}

int page_decode(const void *buf, size_t len, struct page *out)
{
    struct in in = {.at = buf};
    uint32_t i;
    int rc;

    if ((uintptr_t)buf % 8)
        return -EINVAL;
    rc = take_head(buf, len, out, &in.used);
    if (rc)
        return rc;
    in.len = len - 8;
    for (i = 0; i < out->nlabels; i++) {
        if (!take_label(&in, &out->labels[i]))
            return -EBADMSG;
    }
    for (i = 0; i < out->nsamples; i++) {
        if (!take_sample(&in, &out->samples[i]))
            return -EBADMSG;
    }
    return in.used == in.len ? 0 : -EBADMSG;
}

const char *page_label(const struct page *p, const char *key)
{
    uint32_t i;

    for (i = 0; i < p->nlabels; i++) {
        if (strcmp(p->labels[i].key, key) == 0)
            return p->labels[i].value;
    }
    return "";
}
