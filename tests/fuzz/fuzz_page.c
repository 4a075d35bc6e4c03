/*
 * fuzz_page.c - statistics pages, which any process may have written, and the text that Prometheus
 * reads of them.
 *
 * Input: how the page is made; how many bytes are cut off its end (u16, times eight); places that
 * are changed (u16 from the start of the page, what is xored). Bit 0 of how: the checksum is right
 * again, and the length said in the page; bit 1: what follows the first two numbers is the page
 * itself, with the magic and the version of one; bit 2: the text of a real page, too. Promises: a
 * page is taken or refused with one of two errors; what is taken has names, texts and arrays that
 * end inside its bytes, and bounds that grow; the text says every metric once and ends where it
 * says.
 */
#include <errno.h>

#include "base/bits.h"
#include "base/hash.h"
#include "base/le.h"
#include "fuzz.h"
#include "metrics/text.h"

#define HEAD 128u
#define ROOM (PAGE_ROOM / sizeof(uint64_t))

/* Its first bytes; how long it is. The same for every input. */
static size_t real_page(uint64_t *buf, size_t most)
{
    static uint64_t made[ROOM];
    static int64_t n;
    static const struct page_label labels[] = {{"model", "m \"quoted\""}, {"root", "/mnt/x"}};
    static const struct page_identity id = {
        .pid = 7, .handle = 1, .interval_ms = 500, .shard = 1, .shards = 4, .start_ticks = 99};
    static struct metrics m;

    if (!n) {
        metric_set(&m, (enum metric)0, 1ull << 60);
        n = page_encode(made, PAGE_ROOM, &id, labels, 2, &(struct page_update){.now_ns = 5}, &m);
        FUZZ_CHECK(n > 0);
    }
    memcpy(buf, made, min_u64((uint64_t)n, most));
    return (size_t)n;
}

/* Ends with a NUL inside the page. */
static void inside(const char *s, const uint8_t *page, size_t len)
{
    const uint8_t *at = (const uint8_t *)s;

    FUZZ_CHECK(at >= page + HEAD && at < page + len);
    FUZZ_CHECK(memchr(at, 0, (size_t)(page + len - at)) != NULL);
}

static void taken_check(const struct page *p, const uint8_t *page, size_t len)
{
    uint32_t i, b;

    for (i = 0; i < p->nlabels; i++) {
        inside(p->labels[i].key, page, len);
        inside(p->labels[i].value, page, len);
        FUZZ_CHECK(page_label(p, p->labels[i].key)[0] == p->labels[i].value[0] || i);
    }
    for (i = 0; i < p->nsamples; i++) {
        const struct cistern_sample *s = &p->samples[i];

        inside(s->name, page, len);
        inside(s->help, page, len);
        if (!s->buckets)
            continue;
        FUZZ_CHECK((const uint8_t *)s->bounds >= page + HEAD);
        FUZZ_CHECK((const uint8_t *)(s->counts + s->buckets + 1) <= page + len);
        for (b = 1; b < s->buckets; b++)
            FUZZ_CHECK(s->bounds[b] > s->bounds[b - 1]);
    }
}

static void text_check(const struct page *p)
{
    const struct text_handle two[] = {{p, 1000}, {p, 2000}};
    size_t n = text_render(NULL, 0, two, 2);
    char *text = malloc(n + 1), *line, *next;

    FUZZ_CHECK(n > 0 && text_render(text, n + 1, two, 2) == n && strlen(text) == n);
    FUZZ_CHECK(text[n - 1] == '\n');
    for (line = text; *line; line = next) { /* a comment, or a name and a number */
        next = strchr(line, '\n') + 1;
        FUZZ_CHECK(*line == '#' || strncmp(line, "cistern_", 8) == 0);
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    unsigned how = fuzz_u8(&in);
    size_t cut = 8 * (size_t)fuzz_u16(&in), len, i;
    uint64_t *buf = calloc(ROOM, sizeof *buf), *page;
    struct page *p = malloc(sizeof *p);
    int rc;

    len = real_page(buf, how & 2 ? HEAD : PAGE_ROOM);
    if (how & 2) {
        len = HEAD + round_up(in.left, 8) + 8;
        len = len < PAGE_ROOM ? len : PAGE_ROOM;
        fuzz_bytes(&in, (uint8_t *)buf + HEAD, len - HEAD - 8);
        le32_store((uint8_t *)buf + 76, ((uint8_t *)buf)[HEAD + 7] % 4u);
        le32_store((uint8_t *)buf + 80, ((uint8_t *)buf)[len - 9] % 8u);
    }
    len -= cut < len - 8 ? cut : 0;
    while (in.left) {
        i = fuzz_u16(&in) % len;
        ((uint8_t *)buf)[i] ^= fuzz_u8(&in);
    }
    if (how & 1 && len >= HEAD + 8) {
        le64_store((uint8_t *)buf + 16, len);
        le64_store((uint8_t *)buf + len - 8, hash64(buf, len - 8));
    }
    page = fuzz_copy(buf, len);
    rc = page_decode(page, len, p);
    FUZZ_CHECK(rc == 0 || rc == -EBADMSG || rc == -EPROTO);
    if (!rc) {
        taken_check(p, (const uint8_t *)page, len);
        if (how & 6) /* of a real page it is long */
            text_check(p);
    }
    free(p);
    free(page);
    free(buf);
    return 0;
}
