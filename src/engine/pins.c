/*
 * pins.c - see pins.h.
 *
 * A pin that is damaged or of a later version protects nothing: a warning, and fsck tells. One that
 * storage will not give fails the look, a few times; then it is passed over until it can be read.
 */
#include "engine/pins.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "engine/capacity.h"
#include "engine/carry.h"
#include "engine/writer_internal.h"
#include "engine/sealed.h"
#include "segment/pin.h"

#define PATH_BYTES   800
#define PATIENCE     3u /* looks that fail before a pin that cannot be read is passed over */
#define VERDICTS_MAX (1u << 16)

static int grow(void *list, size_t *room, size_t count, size_t size)
{
    void **at = list, *grown;
    size_t want = *room ? 2 * *room : 64;

    if (count < *room)
        return 0;
    if (!(grown = realloc(*at, want * size)))
        return -ENOMEM;
    *at = grown;
    *room = want;
    return 0;
}

void pins_free(struct pins *p)
{
    free(p->keys);
    free(p->files);
    free(p->verdicts);
    *p = (struct pins){0};
}

static int by_key(const void *x, const void *y)
{
    const struct pin_key *a = x, *b = y;

    if (a->space != b->space)
        return a->space < b->space ? -1 : 1;
    return memcmp(a->key, b->key, sizeof a->key);
}

static bool is_pinned(const struct pins *p, uint32_t space, const uint8_t key[32])
{
    struct pin_key want = {.space = space};

    memcpy(want.key, key, sizeof want.key);
    return p->count && bsearch(&want, p->keys, p->count, sizeof want, by_key);
}

static int64_t own_space(const struct usage *u)
{
    uint32_t i;

    for (i = 0; i < u->nspaces; i++) {
        if (u->spaces[i].own)
            return i;
    }
    return -1;
}

bool pins_has(const cistern *c, const uint8_t key[32])
{
    const struct pins *p = &c->capacity->pins;
    int64_t space = p->count ? own_space(&c->capacity->usage) : -1;

    return space >= 0 && is_pinned(p, (uint32_t)space, key);
}

/* ---- Reading them ---- */

struct reading {
    cistern *c;
    struct pins next;
    uint32_t space;
    const char *dir; /* of the space */
    uint8_t *bytes;
    struct pin_file *files; /* to be read */
    size_t nfiles, rfiles;
    bool failed;
};

static int add_file(struct reading *r, uint64_t id)
{
    size_t i;

    for (i = 0; i < r->nfiles; i++) {
        if (r->files[i].space == r->space && r->files[i].id == id)
            return 0;
    }
    if (grow(&r->files, &r->rfiles, r->nfiles, sizeof *r->files))
        return -ENOMEM;
    r->files[r->nfiles++] = (struct pin_file){.space = r->space, .id = id};
    return 0;
}

static int on_name(void *arg, const char *name)
{
    uint64_t id;

    return pin_name_parse(name, &id) ? add_file(arg, id) : 0;
}

static int take_keys(struct reading *r, const struct pin_record *pin)
{
    uint32_t i;

    for (i = 0; i < pin->nkeys; i++) {
        if (grow(&r->next.keys, &r->next.room, r->next.count, sizeof *r->next.keys))
            return -ENOMEM;
        r->next.keys[r->next.count] = (struct pin_key){.space = r->space};
        memcpy(r->next.keys[r->next.count++].key, pin->keys + 32 * (size_t)i, 32);
    }
    if (pin->expires_s)
        r->next.next_s = min_u64(r->next.next_s, pin->expires_s);
    return 0;
}

static int take_pin(struct reading *r, uint64_t id)
{
    cistern *c = r->c;
    char name[PIN_NAME_MAX], path[PATH_BYTES];
    struct pin_record pin;
    int64_t n;
    int rc;

    pin_name(name, id);
    (void)snprintf(path, sizeof path, "%s/%s", r->dir, name);
    n = c->io->ops->small_read(c->io, path, r->bytes, PIN_BYTES_MAX);
    if (n == -ENOENT)
        return 0;
    if (n < 0 && n != -EFBIG) {
        log_line(&c->cfg.log, LOG_WARN, "the pin %s cannot be read: %s", path,
                 cistern_error_string((int)n));
        r->failed = true;
        return c->capacity->pins.failed < PATIENCE ? (int)n : 0;
    }
    if (grow(&r->next.files, &r->next.rfiles, r->next.nfiles, sizeof *r->next.files))
        return -ENOMEM;
    r->next.files[r->next.nfiles++] = (struct pin_file){.space = r->space, .id = id};
    rc = n < 0 ? -EBADMSG : pin_decode(r->bytes, (size_t)n, &pin);
    if (rc) {
        log_line(&c->cfg.log, LOG_WARN, "the pin %s is not valid and keeps nothing: %s", path,
                 cistern_error_string(rc));
        return 0;
    }
    return pin_holds(&pin, clock_wall_s()) ? take_keys(r, &pin) : 0;
}

static int take_space(struct reading *r)
{
    const struct usage *u = &r->c->capacity->usage;
    char dir[PATH_BYTES - PIN_NAME_MAX - 2];
    const struct pins *was = &r->c->capacity->pins;
    size_t i;
    int rc;

    (void)snprintf(dir, sizeof dir, "%s%s%s", r->c->cfg.root, r->c->cfg.root[0] ? "/" : "",
                   u->spaces[r->space].name);
    r->dir = dir;
    r->nfiles = 0;
    rc = r->c->io->ops->list(r->c->io, dir, on_name, r);
    if (rc == -ENOENT || rc == -ENOTDIR)
        return 0;
    for (i = 0; i < was->nfiles && !rc; i++) {
        if (was->files[i].space == r->space)
            rc = add_file(r, was->files[i].id);
    }
    for (i = 0; i < r->nfiles && !rc; i++)
        rc = take_pin(r, r->files[i].id);
    return rc;
}

static bool had_pins(const struct pins *p, uint32_t space)
{
    size_t i;

    for (i = 0; i < p->nfiles; i++) {
        if (p->files[i].space == space)
            return true;
    }
    return false;
}

static int take_all(struct reading *r, uint64_t *names)
{
    const struct usage *u = &r->c->capacity->usage;
    int rc = 0;

    *names = 0;
    for (r->space = 0; r->space < u->nspaces && !rc; r->space++) {
        if (!u->spaces[r->space].pins && !had_pins(&r->c->capacity->pins, r->space))
            continue;
        *names += u->spaces[r->space].pins * (r->space + 1);
        if (!r->bytes && !(r->bytes = malloc(PIN_BYTES_MAX)))
            return -ENOMEM;
        rc = take_space(r);
    }
    return rc;
}

static uint64_t names_now(const struct usage *u)
{
    uint64_t names = 0;
    uint32_t i;

    for (i = 0; i < u->nspaces; i++)
        names += u->spaces[i].pins * (i + 1);
    return names;
}

int pins_look(cistern *c)
{
    struct pins *p = &c->capacity->pins;
    struct reading *r;
    uint64_t names;
    int rc;

    if (!p->read)
        p->next_s = UINT64_MAX;
    if (!p->failed && names_now(&c->capacity->usage) == p->names && clock_wall_s() < p->next_s)
        return 0;
    if (!(r = calloc(1, sizeof *r)))
        return -ENOMEM;
    r->c = c;
    r->next = (struct pins){.next_s = UINT64_MAX, .read = true};
    rc = take_all(r, &names);
    if (rc) {
        p->failed += p->failed < PATIENCE;
        pins_free(&r->next);
    } else {
        if (r->next.count)
            qsort(r->next.keys, r->next.count, sizeof *r->next.keys, by_key);
        r->next.names = names;
        r->next.failed = r->failed ? PATIENCE : 0;
        pins_free(p);
        *p = r->next;
        metric_set(&c->metrics, METRIC_pinned_keys, p->count);
    }
    free(r->bytes);
    free(r->files);
    free(r);
    return rc;
}

/* ---- Our own shard ---- */

struct choosing {
    cistern *c;
    uint32_t number;
    struct block_info *blocks; /* to be copied */
    size_t count, room;
};

/* Is there a copy that outlives this one? The same answer in every handle: that in the segment with
 * the greater id; or, because nobody evicts it, in the one that we write. */
static bool has_better(cistern *c, const struct index_place *p)
{
    struct index_place newest;
    const struct segment *here = &c->segs.at[p->segment], *there;
    cistern_key key;

    memcpy(key.b, p->info.key, sizeof key.b);
    if (!index_find(c->index, &key, &newest) || newest.segment == p->segment ||
        (newest.info.mask & p->info.mask) != p->info.mask)
        return false;
    there = &c->segs.at[newest.segment];
    return writer_segment_open(c, there->writer, there->seq) ||
           memcmp(there->id, here->id, sizeof here->id) > 0;
}

static int consider(void *arg, const struct index_place *p, bool others)
{
    struct choosing *s = arg;

    if (!pins_has(s->c, p->info.key) || (others && has_better(s->c, p)))
        return 0;
    if (grow(&s->blocks, &s->room, s->count, sizeof *s->blocks))
        return -ENOMEM;
    s->blocks[s->count++] = p->info;
    return 0;
}

static bool keep_own(cistern *c, uint32_t number)
{
    struct choosing s = {.c = c, .number = number};

    if (index_walk_segment(c->index, number, consider, &s)) {
        free(s.blocks);
        return true; /* no memory: another one now */
    }
    if (!s.count) {
        free(s.blocks);
        return false;
    }
    carry_copies(c, number, s.blocks, s.count, POLICY_OLD);
    return true;
}

/* ---- Others ---- */

struct searching {
    const struct pins *pins;
    uint32_t space;
};

static int on_block(void *arg, const struct block_info *b)
{
    const struct searching *s = arg;

    return is_pinned(s->pins, s->space, b->key) ? -EEXIST : 0;
}

/* 1: its contents name a pinned key; 0: they do not, or nobody can read them; or what storage
 * answered. */
static int contents_keep(cistern *c, const struct usage_segment *s)
{
    const struct usage *u = &c->capacity->usage;
    struct searching find = {.pins = &c->capacity->pins, .space = u->dirs[s->dir].space};
    const struct toc_sink sink = {.block = on_block, .arg = &find};
    char name[SEGMENT_NAME_MAX], path[PATH_BYTES];
    size_t room = round_up(s->toc_size + 2 * FORMAT_PAGE, 64);
    struct toc_cursor cursor;
    struct toc_header h;
    uint8_t key[CRYPT_KEY];
    uint8_t *bytes = aligned_alloc(64, room);
    int64_t n;
    int rc;

    if (!bytes)
        return -ENOMEM;
    segment_name(name, s->writer, s->seq, ".toc");
    (void)snprintf(path, sizeof path, "%s/%s", u->dirs[s->dir].path, name);
    n = c->io->ops->small_read(c->io, path, bytes, room);
    rc = n < 0 ? (int)n : n < (int64_t)FORMAT_PAGE ? -EBADMSG : toc_header_decode(bytes, &h);
    rc = rc ? rc : sealed_cursor(c, bytes, &h, &cursor, key);
    if (!rc)
        rc = toc_parse(&cursor, bytes + FORMAT_PAGE, (size_t)n - FORMAT_PAGE, true, &sink);
    crypt_wipe(key, sizeof key);
    free(bytes);
    if (rc == -EBADMSG || rc == -ENOENT || rc == CISTERN_EKEY)
        return 0;
    return rc == -EEXIST ? 1 : rc < 0 ? rc : 0;
}

static bool keep_other(cistern *c, const struct usage_segment *s)
{
    struct pins *p = &c->capacity->pins;
    size_t i;
    int rc;

    for (i = 0; i < p->nverdicts; i++) {
        const struct pins_verdict *v = &p->verdicts[i];

        if (v->dir == s->dir && v->writer == s->writer && v->seq == s->seq)
            return v->keeps;
    }
    if (p->nverdicts == VERDICTS_MAX) /* most are of segments that are gone */
        p->nverdicts = 0;
    rc = contents_keep(c, s);
    if (rc < 0 || grow(&p->verdicts, &p->rverdicts, p->nverdicts, sizeof *p->verdicts))
        return rc != 0; /* not known: it stays for now */
    p->verdicts[p->nverdicts++] =
        (struct pins_verdict){.dir = s->dir, .writer = s->writer, .seq = s->seq, .keeps = rc == 1};
    return rc == 1;
}

bool pins_keep(cistern *c, size_t victim)
{
    struct capacity *k = c->capacity;
    const struct usage_segment *s = &k->usage.segs[victim];
    const struct usage_dir *d = &k->usage.dirs[s->dir];
    const struct segment *known;
    bool keeps;

    if (!k->pins.count || !had_pins(&k->pins, d->space) ||
        k->choice[victim].rank == POLICY_RANK_EXPIRED)
        return false;
    known = d->own ? segtab_find_file(&c->segs, d->shard, s->writer, s->seq) : NULL;
    keeps = known ? keep_own(c, (uint32_t)(known - c->segs.at)) : keep_other(c, s);
    if (keeps)
        metric_add(&c->metrics, METRIC_pin_kept_segments, 1);
    return keeps;
}
