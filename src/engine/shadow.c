/*
 * shadow.c - shadow compare: what the engine computed beside a fresh read of what is stored.
 *
 * A debugging aid that a caller uses on purpose: it blocks and allocates, and is not on the path of
 * a get. The read is an ordinary get, so the stored bytes are verified before they are believed.
 * Threads: any.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

int cistern_shadow_due(cistern *c)
{
    uint32_t n;

    if (guard_check(c) || !c->cfg.shadow_every)
        return 0;
    n = atomic_fetch_add(&c->shadow_asked, 1) + 1;
    return n % c->cfg.shadow_every == 0;
}

static uint64_t span_bytes(const struct cistern_span *s)
{
    uint64_t bytes = 0;
    uint32_t i;

    for (i = 0; i < s->count; i++)
        bytes += s->vecs[i].len;
    return bytes;
}

static size_t every_bit(void *arg, const void *stored, const void *computed, size_t len)
{
    const uint8_t *a = stored, *b = computed;
    size_t i;

    (void)arg;
    if (memcmp(a, b, len) == 0)
        return len;
    for (i = 0; a[i] == b[i]; i++)
        ;
    return i;
}

/* The first difference; UINT64_MAX: none. */
static uint64_t compare(const struct cistern_span *s, const uint8_t *stored,
                        size_t (*differs)(void *, const void *, const void *, size_t), void *arg)
{
    uint64_t at = 0;
    uint32_t i;

    for (i = 0; i < s->count; i++) {
        size_t len = s->vecs[i].len,
               where = len ? differs(arg, stored + at, s->vecs[i].base, len) : 0;

        if (where < len)
            return at + where;
        at += len;
    }
    return UINT64_MAX;
}

/* What the lanes use until the get has ended. */
struct reading {
    cistern_key key;
    struct cistern_span spans[CISTERN_MAX_PARTS];
    struct cistern_vec vec;
    uint8_t results[CISTERN_MAX_PARTS];
    uint8_t bytes[];
};

/* What is stored, to be freed by the caller; *out stays NULL when it is no hit. */
static int read_stored(cistern *c, const struct cistern_shadow *s, uint64_t len,
                       struct reading **out)
{
    struct reading *x = calloc(1, sizeof *x + len);
    struct cistern_request r = {.size = sizeof r, .blocks = 1, .timeout_ms = s->timeout_ms};
    struct cistern_event event;
    int rc;

    if (!x)
        return err_set(-ENOMEM, "no memory for a part of %llu bytes", (unsigned long long)len);
    x->key = *s->key;
    x->vec = (struct cistern_vec){.base = x->bytes, .len = len};
    x->spans[s->part] = (struct cistern_span){.vecs = &x->vec, .count = 1};
    r.keys = &x->key;
    r.spans = x->spans;
    r.results = x->results;
    rc = cistern_get_sync(c, &r, &event);
    if (!rc && x->results[s->part] == CISTERN_HIT)
        *out = x;
    else if (rc != -ETIMEDOUT) /* else the library still writes to it: it is left behind */
        free(x);
    return rc;
}

static void tell(cistern *c, const struct cistern_shadow *s, int verdict, uint64_t at)
{
    struct index_place place;
    const struct segment *seg;
    char key[65];
    int i;

    metric_add(&c->metrics, METRIC_shadow_differs, 1);
    if (atomic_exchange(&c->shadow_told, 1))
        return;
    for (i = 0; i < 32; i++) {
        key[2 * i] = "0123456789abcdef"[s->key->b[i] >> 4];
        key[2 * i + 1] = "0123456789abcdef"[s->key->b[i] & 15];
    }
    key[64] = 0;
    if (!index_find(c->index, s->key, &place)) { /* it went while we compared */
        log_line(&c->cfg.log, LOG_ERROR, "shadow: %s part %u differs at byte %" PRIu64, key,
                 s->part, at);
        return;
    }
    seg = &c->segs.at[place.segment];
    log_line(&c->cfg.log, LOG_ERROR,
             "shadow: %s part %u: what was %s differs at byte %" PRIu64
             " from what writer %016" PRIx64 " stored in segment %" PRIu64 " at page %u",
             key, s->part, verdict == CISTERN_SHADOW_LOADED ? "loaded" : "computed", at,
             seg->writer, seg->seq, place.info.offset);
}

static int check_shadow(cistern *c, const struct cistern_shadow *s)
{
    if (!s->key || !s->computed || !s->computed->vecs || s->part >= c->cfg.nparts)
        return err_set(-EINVAL, "shadow: no key, no computed bytes, or no such part");
    if (!span_bytes(s->computed) || span_bytes(s->computed) > c->cfg.part_bytes[s->part])
        return err_set(-EINVAL, "shadow: part %u has at most %" PRIu64 " bytes", s->part,
                       c->cfg.part_bytes[s->part]);
    if (s->loaded && (!s->loaded->vecs || span_bytes(s->loaded) != span_bytes(s->computed)))
        return err_set(-EINVAL, "shadow: what was loaded and computed have not the same length");
    return 0;
}

int cistern_shadow_report(cistern *c, const struct cistern_shadow *given, uint64_t *offset)
{
    struct cistern_shadow s;
    struct reading *stored = NULL;
    uint64_t at = UINT64_MAX;
    int verdict = CISTERN_SHADOW_LOADED, rc = guard_check(c);

    if (rc || (rc = config_take_struct(&s, sizeof s, given)) || (rc = check_shadow(c, &s)) ||
        (rc = read_stored(c, &s, span_bytes(s.computed), &stored)))
        return rc;
    if (!stored)
        return CISTERN_SHADOW_GONE;
    metric_add(&c->metrics, METRIC_shadow_checked, 1);
    if (s.loaded)
        at = compare(s.loaded, stored->bytes, every_bit, NULL);
    if (at == UINT64_MAX) {
        at = compare(s.computed, stored->bytes, s.differs ? s.differs : every_bit, s.arg);
        verdict = at == UINT64_MAX ? CISTERN_SHADOW_SAME : CISTERN_SHADOW_COMPUTED;
    }
    free(stored);
    if (verdict == CISTERN_SHADOW_SAME)
        return verdict;
    tell(c, &s, verdict, at);
    if (offset)
        *offset = at;
    return verdict;
}
