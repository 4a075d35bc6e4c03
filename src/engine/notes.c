/*
 * notes.c - see notes.h.
 */
#include "engine/notes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "engine/capacity.h"
#include "engine/follow.h"
#include "engine/notes_file.h"
#include "engine/sealed.h"
#include "engine/writer_internal.h"

#define PATH_BYTES  640
#define TOC_MOST    (64ull << 20)
#define UNREAD_MOST 5u                /* tries to read contents; then their notes are lost */
#define SOON_NS     (250 * NS_PER_MS) /* until published notes are looked for */
#define OTHERS_NS   (5 * NS_PER_S)  /* until a segment that is left to others is looked at again */
#define USEFUL_NS   (60 * NS_PER_S) /* likewise one of nothing but useful notes */

struct noted {
    struct dead_note note;
    bool useful;
};

/* What contents say of others. */
struct gathered {
    struct toc_header header;
    struct noted *at;
    size_t useful;
    size_t count, room;
    uint64_t blocks;
    bool later; /* a later version wrote them, or a part of them, or their key is not known */
};

/* ---- Reading ---- */

static int gather(struct gathered *g, const struct dead_note *note)
{
    struct noted *grown;

    if (memcmp(note->segment_id, g->header.segment_id, sizeof note->segment_id) == 0)
        return 0; /* about itself */
    if (g->count == g->room) {
        size_t room = g->room ? 2 * g->room : 64;

        if (!(grown = realloc(g->at, room * sizeof *grown)))
            return -ENOMEM;
        g->at = grown;
        g->room = room;
    }
    g->at[g->count++] = (struct noted){.note = *note};
    return 0;
}

static int on_block(void *arg, const struct block_info *b)
{
    struct gathered *g = arg;

    (void)b;
    g->blocks++;
    return 0;
}

static int on_dead(void *arg, const uint8_t key[32], const uint8_t segment_id[16], uint32_t offset,
                   uint8_t reason)
{
    struct dead_note note = {.offset = offset, .reason = reason};

    memcpy(note.key, key, sizeof note.key);
    memcpy(note.segment_id, segment_id, sizeof note.segment_id);
    return gather(arg, &note);
}

static int on_aside(void *arg, const uint8_t segment_id[16], uint8_t reason)
{
    static const uint8_t any[32];

    return on_dead(arg, any, segment_id, DEAD_NOTE_ASIDE, reason);
}

/* The whole of a contents file; free() it. Sizes may lag: it is read to its end. */
static int64_t read_contents(cistern *c, const struct usage *u, const struct usage_segment *s,
                             uint8_t **out)
{
    uint64_t room = round_up(s->toc_size + 2 * FORMAT_PAGE, FORMAT_PAGE);
    char name[SEGMENT_NAME_MAX], path[PATH_BYTES];
    uint8_t *bytes;
    int64_t n;

    segment_name(name, s->writer, s->seq, ".toc");
    (void)snprintf(path, sizeof path, "%s/%s", u->dirs[s->dir].path, name);
    for (;; room *= 4) {
        if (!(bytes = aligned_alloc(64, room)))
            return -ENOMEM;
        n = c->io->ops->small_read(c->io, path, bytes, room);
        if (n >= 0)
            break;
        free(bytes);
        if (n != -EFBIG || room >= TOC_MOST)
            return n;
    }
    *out = bytes;
    return n;
}

static int parse(const cistern *c, struct gathered *g, const uint8_t *bytes, size_t len)
{
    struct toc_sink sink = {.block = on_block, .dead = on_dead, .aside = on_aside, .arg = g};
    struct toc_cursor cursor;
    uint8_t key[CRYPT_KEY];
    int rc = len < FORMAT_PAGE ? -EBADMSG : toc_header_decode(bytes, &g->header);

    g->later = rc == CISTERN_EFORMAT;
    if (rc)
        return 0; /* nobody of this version can read it anyway */
    rc = sealed_cursor(c, bytes, &g->header, &cursor, key);
    g->later = rc == CISTERN_EKEY;
    if (rc)
        return 0;
    rc = toc_parse(&cursor, bytes + FORMAT_PAGE, len - FORMAT_PAGE, true, &sink);
    crypt_wipe(key, sizeof key);
    g->later = rc == TOC_LATER;
    return rc < 0 ? rc : 0;
}

/* 0 also when it is gone, or could not be read for long. */
static int read_notes(cistern *c, const struct usage *u, struct usage_segment *s,
                      struct gathered *g)
{
    uint8_t *bytes;
    int64_t n = read_contents(c, u, s, &bytes);
    int rc;

    if (n < 0)
        return n == -ENOENT || ++s->unread >= UNREAD_MOST ? 0 : (int)n;
    rc = parse(c, g, bytes, (size_t)n);
    free(bytes);
    return rc;
}

/* ---- What still matters ---- */

/* The id of another segment of the directory; false: it cannot be told. */
static bool learn_id(cistern *c, const struct usage *u, struct usage_segment *t)
{
    const struct usage_dir *d = &u->dirs[t->dir];
    const struct segment *known =
        d->own ? segtab_find_file(&c->segs, d->shard, t->writer, t->seq) : NULL;
    struct toc_header h;
    uint8_t *bytes;
    int64_t n;

    if (t->id_known)
        return true;
    if (known) {
        memcpy(t->id, known->id, sizeof t->id);
    } else {
        n = read_contents(c, u, t, &bytes);
        if (n < 0)
            return n == -ENOENT;
        if (n >= FORMAT_PAGE && toc_header_decode(bytes, &h) == 0)
            memcpy(t->id, h.segment_id, sizeof t->id);
        free(bytes);
        if (n < FORMAT_PAGE)
            return true; /* empty so far: nothing names it */
    }
    t->id_known = true;
    return true;
}

static bool is_there(cistern *c, struct usage *u, const struct usage_segment *s,
                     const struct dead_note *note)
{
    size_t i;

    if (u->dirs[s->dir].own && segtab_find(&c->segs, note->segment_id) >= 0)
        return true;
    for (i = 0; i < u->nsegs; i++) {
        struct usage_segment *t = &u->segs[i];

        if (t->dir != s->dir || t == s || !t->toc)
            continue;
        if (!learn_id(c, u, t) ||
            (t->id_known && memcmp(t->id, note->segment_id, sizeof t->id) == 0))
            return true;
    }
    return u->dirs[s->dir].blind;
}

static void find_useful(cistern *c, struct usage *u, const struct usage_segment *s,
                        struct gathered *g)
{
    size_t i;

    for (i = 0; i < g->count; i++) {
        g->at[i].useful = is_there(c, u, s, &g->at[i].note);
        g->useful += g->at[i].useful;
    }
}

/* ---- Where they go ---- */

/* As many as there is room for; -EAGAIN: they are on their way, or some are still to be sent. What
 * this handle writes it does not read: where it had not read these contents so far, it hears of
 * their notes here or never. */
static int push(cistern *c, struct usage_segment *s, const struct gathered *g)
{
    for (; s->notes_sent < g->count; s->notes_sent++) {
        const struct noted *n = &g->at[s->notes_sent];

        if (n->useful && writer_push_dead(c, &n->note, 1))
            break;
        if (n->useful)
            follow_hear(c, &n->note);
    }
    s->notes_at = s->notes_sent == g->count ? writer_dead_pushed(c) : 0;
    return -EAGAIN;
}

/* As a new writer of that shard, which closed. */
static int write_alone(cistern *c, const struct usage *u, const struct usage_segment *s,
                       const struct gathered *g)
{
    const struct notes_file f = {.io = c->io,
                                 .crypt = c->crypt,
                                 .cipher = c->keeper.cipher,
                                 .dir = u->dirs[s->dir].path,
                                 .of = &g->header};
    struct dead_note *notes = calloc(g->useful, sizeof *notes);
    size_t i, n = 0;
    int rc;

    if (!notes)
        return -ENOMEM;
    for (i = 0; i < g->count; i++) {
        if (g->at[i].useful)
            notes[n++] = g->at[i].note;
    }
    rc = notes_file_write(&f, notes, n);
    free(notes);
    if (!rc)
        metric_add(&c->metrics, METRIC_notes_moved, g->useful);
    return rc;
}

/* Somebody of its shard may still write. */
static bool shard_lives(const cistern *c, const struct usage *u, uint32_t dir)
{
    size_t i;

    for (i = 0; i < u->nheads; i++) {
        if (u->heads[i].dir == dir && !usage_head_ended(&u->heads[i], c->capacity->silence_ns))
            return true;
    }
    return u->dirs[dir].blind;
}

/* ---- Together ---- */

static int place(cistern *c, struct usage *u, struct usage_segment *s, const struct gathered *g,
                 bool urgent)
{
    bool own = u->dirs[s->dir].own;

    if (own && c->writer) {
        s->wait_ns = clock_boot_ns() + SOON_NS;
        return g->useful ? push(c, s, g) : 0;
    }
    if (shard_lives(c, u, s->dir)) {
        s->wait_ns = clock_boot_ns() + OTHERS_NS;
        return g->useful || g->later ? -EBUSY : 0;
    }
    if (!g->useful)
        return 0;
    if (!g->blocks || urgent) { /* nothing would be gained, or there is no room */
        s->wait_ns = clock_boot_ns() + USEFUL_NS;
        return -EBUSY;
    }
    return write_alone(c, u, s, g);
}

/* Those of this handle's shard that were sent before. */
static int sent_before(cistern *c, struct usage_segment *s)
{
    s->wait_ns = clock_boot_ns() + SOON_NS;
    if (!writer_dead_published(c, s->notes_at))
        return -EAGAIN;
    return keeper_sync_for(c, clock_ns() + c->cfg.write_timeout_ms * NS_PER_MS);
}

static bool wrote_none(cistern *c, const struct usage *u, const struct usage_segment *s)
{
    const struct usage_dir *d = &u->dirs[s->dir];
    const struct segment *known =
        d->own ? segtab_find_file(&c->segs, d->shard, s->writer, s->seq) : NULL;

    return known && known->own && !known->cursor.dead;
}

int notes_keep(cistern *c, struct usage *u, struct usage_segment *s, bool urgent)
{
    struct gathered g = {0};
    int rc;

    if (wrote_none(c, u, s))
        return 0;
    if (s->notes_at) {
        rc = sent_before(c, s);
        return rc == -EAGAIN && urgent ? 0 : rc;
    }
    rc = read_notes(c, u, s, &g);
    if (!rc) {
        find_useful(c, u, s, &g);
        rc = place(c, u, s, &g, urgent);
    }
    free(g.at);
    return rc == -EAGAIN && urgent && s->notes_at ? 0 : rc;
}
