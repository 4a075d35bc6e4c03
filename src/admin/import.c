/*
 * import.c - cistern_import(): reads and verifies a stream; import_write.c writes.
 *
 * Nothing of the stream is believed before its checksum, or, for payloads, before the check that
 * binds them to the source's space, segment, key and place. They are bound anew to where they come
 * to lie. Any doubt ends the import and removes its files.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/import.h"
#include "base/bits.h"
#include "base/clock.h"
#include "base/le.h"
#include "engine/config.h"

#define CONTENTS_MAX (1u << 30)
#define CUT          "the export is cut"

/* Exactly len bytes. */
static int take(struct import *m, void *buf, size_t len)
{
    uint8_t *p = buf;

    while (len) {
        int64_t n = m->read(m->arg, p, len);

        if (n < 0)
            return err_set((int)n, "the export cannot be read: %s", cistern_error_string((int)n));
        if (n == 0)
            return err_set(-EBADMSG, CUT);
        if ((uint64_t)n > len)
            return err_set(-EINVAL, "read gave more than was asked for");
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

static int take_header(struct import *m, struct member_header *h)
{
    uint8_t bytes[32];
    int rc = take(m, bytes, sizeof bytes);

    if (rc)
        return rc;
    member_header_decode(bytes, h);
    if (h->magic != MEMBER_MAGIC || h->number != m->member)
        return err_set(-EBADMSG, "the export is damaged before member %llu",
                       (unsigned long long)m->member);
    m->member++;
    return 0;
}

static int damaged(const struct import *m)
{
    return err_set(-EBADMSG, "the export is damaged: checksum of member %llu",
                   (unsigned long long)m->member - 1);
}

/* A body of at most `max` bytes; owned by the caller. */
static int take_body(struct import *m, const struct member_header *h, size_t max, uint8_t **out)
{
    struct hash64_state state;
    uint8_t *body;
    int rc;

    if (h->length > max)
        return damaged(m);
    body = malloc(h->length + 1);
    if (!body)
        return err_set(-ENOMEM, "no memory for a member of %llu bytes",
                       (unsigned long long)h->length);
    rc = take(m, body, h->length);
    if (!rc) {
        member_hash_begin(&state, h);
        hash64_add(&state, body, h->length);
        if (hash64_end(&state) != h->checksum)
            rc = damaged(m);
    }
    if (rc) {
        free(body);
        return rc;
    }
    body[h->length] = 0;
    *out = body;
    return 0;
}

/* ---- Root and space ---- */

/* A root that is not there, with the stream's salt. */
static int root_make(struct import *m, const struct container_header *h, const char *salt_path)
{
    struct io *io = m->ad.io;
    char part[ADMIN_PATH], *slash;
    int rc = 0;

    (void)snprintf(part, sizeof part, "%s", m->ad.cfg.root);
    for (slash = strchr(part, '/'); slash && !rc; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        rc = io->ops->make_dir(io, part);
        *slash = '/';
    }
    if (!rc && *part)
        rc = io->ops->make_dir(io, part);
    if (!rc)
        rc = io->ops->small_write(io, salt_path, h->salt, sizeof h->salt, true);
    return rc && rc != -EEXIST ? err_set(rc, "cannot make %s/%s", io->mount, salt_path) : 0;
}

static int root_take(struct import *m, const struct container_header *h)
{
    struct root_params params = {.capacity_bytes = m->ad.cfg.capacity_bytes,
                                 .segment_bytes = m->ad.cfg.segment_bytes,
                                 .silence_ms = m->ad.cfg.silence_ms,
                                 .crypt = m->ad.crypt};
    char path[ADMIN_PATH];
    struct root_info root;
    struct io_stat st;
    uint8_t id[32];
    int rc = admin_path(&m->ad, path, ROOT_SALT, "");

    if (rc)
        return rc;
    if (m->ad.io->ops->stat(m->ad.io, path, &st) == -ENOENT) {
        if (!(h->flags & CONTAINER_SALT))
            return err_set(CISTERN_ESPACE,
                           "%s/%s has no salt, and the export does not bring one: no key of it "
                           "would ever be asked for. Export with the salt, or import into a root "
                           "that has the same one",
                           m->ad.io->mount, m->ad.cfg.root);
        if ((rc = root_make(m, h, path)))
            return rc;
        params.may_write = true;
    }
    rc = root_prepare(m->ad.io, m->ad.cfg.root, &params, &root);
    if (rc || (rc = container_salt_id(root.salt, id)))
        return rc;
    if ((rc = admin_key_fits(&m->ad, &root)))
        return rc;
    if (memcmp(id, h->salt_id, sizeof id) != 0)
        return err_set(
            CISTERN_ESPACE,
            "%s/%s has another salt than the root that was exported: its keys differ, so "
            "no block of the export would ever be asked for",
            m->ad.io->mount, m->ad.cfg.root);
    return 0;
}

struct blocks {
    struct block_info *at;
    size_t count;
};

/* What the capacity leaves. Nobody makes room for an import: it stores what engines did not ask
 * for, and they would evict it, or what they use, as soon as they write. */
static int room_take(struct import *m)
{
    struct survey v = {0};
    uint64_t capacity, used;
    int rc = root_capacity(m->ad.io, m->ad.cfg.root, &capacity);

    m->room = UINT64_MAX;
    if (rc || !capacity)
        return rc ? err_set(rc, "the capacity of the root cannot be read from cistern.json") : 0;
    if ((rc = survey_take(&m->ad, false, &v)))
        return rc;
    used = survey_usage(&v);
    survey_free(&v);
    m->room = capacity > used ? capacity - used : 0;
    return 0;
}

static int room_use(struct import *m, const struct blocks *list)
{
    uint64_t need = FORMAT_PAGE + list->count * 2 * FORMAT_RECORD;
    size_t i;

    if (m->room == UINT64_MAX)
        return 0;
    for (i = 0; i < list->count; i++)
        need += block_extent(&list->at[i]);
    if (need > m->room)
        return err_set(-ENOSPC,
                       "the capacity of the root leaves too little room for the export: make some "
                       "with `cistern gc --to`, or set a greater capacity");
    m->room -= need;
    return 0;
}

/* "<name>-<32 digits>" from a description whose name could be anything. */
static int space_dir_of(struct import *m, const json_t *o)
{
    const char *name = json_string_value(json_object_get(o, "name"));
    size_t len = name ? strlen(name) : 0;
    unsigned i;

    if (!len || len > 64 ||
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != len)
        return err_set(-EBADMSG, "the export's space has a name that cannot be");
    len = (size_t)snprintf(m->space_name, sizeof m->space_name, "%s-", name);
    for (i = 0; i < 16; i++)
        (void)snprintf(m->space_name + len + 2 * i, 3, "%02x", m->fingerprint[i]);
    return admin_path(&m->ad, m->space_dir, m->space_name, "");
}

static int space_write(struct import *m, const json_t *o)
{
    char path[ADMIN_PATH], text[SPACE_JSON_MAX];
    size_t n = json_dumpb(o, text, sizeof text - 1, JSON_SORT_KEYS | JSON_COMPACT);
    struct io_stat st;
    int rc;

    if (!n || n >= sizeof text - 1)
        return err_set(-EBADMSG, "the export's space cannot be described");
    text[n++] = '\n';
    m->space_made = m->ad.io->ops->stat(m->ad.io, m->space_dir, &st) == -ENOENT;
    if ((rc = m->ad.io->ops->make_dir(m->ad.io, m->space_dir)))
        return err_set(rc, "cannot make the directory %s", m->space_dir);
    (void)snprintf(path, sizeof path, "%.700s/" SPACE_FILE, m->space_dir);
    rc = m->ad.io->ops->small_write(m->ad.io, path, text, n, true);
    return rc && rc != -EEXIST ? err_set(rc, "cannot write %s", path) : 0;
}

static int space_take(struct import *m)
{
    struct member_header h;
    uint8_t *body = NULL;
    json_t *o = NULL;
    int rc = take_header(m, &h);

    if (!rc && h.kind != MEMBER_SPACE)
        rc = err_set(-EBADMSG, "the export does not begin with a space");
    rc = rc ? rc : take_body(m, &h, SPACE_JSON_MAX, &body);
    rc = rc ? rc : space_inspect((const char *)body, h.length, &m->shards, m->fingerprint);
    if (!rc && !(o = json_loadb((const char *)body, h.length, JSON_REJECT_DUPLICATES, NULL)))
        rc = err_set(-EBADMSG, "the export's space cannot be read");
    rc = rc ? rc : space_dir_of(m, o);
    rc = rc ? rc : space_write(m, o);
    json_decref(o);
    free(body);
    return rc;
}

/* ---- Segments ---- */

static int on_block(void *arg, const struct block_info *b)
{
    struct blocks *list = arg;
    struct block_info *one = admin_grow(&list->at, list->count, sizeof *one);

    if (!one)
        return -ENOMEM;
    list->count++;
    *one = *b;
    return 0;
}

/* A piece of a payload that is on its way. */
struct flow {
    struct hash64_state member;
    uint8_t bytes[64 << 10];
};

/* One part: through the hashes, and where the root is encrypted the cipher, into the data file;
 * *hash is that of the payload, *check the new one. */
static int part_take(struct import *m, struct flow *f, const struct check_identity *to,
                     uint64_t *hash, uint64_t *check)
{
    const uint8_t *key = m->segments[m->nsegments - 1].key;
    uint64_t len = to->length;
    struct hash64_state state;
    int rc = key ? part_begin(m->ad.cipher, true, key, to) : 0;

    hash64_begin(&state);
    while (len && !rc) {
        size_t n = (size_t)min_u64(len, sizeof f->bytes);

        if ((rc = take(m, f->bytes, n)))
            break;
        hash64_add(&state, f->bytes, n);
        hash64_add(&f->member, f->bytes, n);
        if (key)
            rc = cipher_add(m->ad.cipher, f->bytes, f->bytes, n);
        rc = rc ? rc : import_data(m, f->bytes, n);
        len -= n;
    }
    *hash = hash64_end(&state);
    *check = format_check(to, *hash);
    if (key && !rc)
        rc = part_seal(m->ad.cipher, check);
    return rc ? rc : import_align(m);
}

/* One block, verified against its record in the source and bound anew. */
static int block_take(struct import *m, struct flow *f, const struct toc_header *from,
                      const struct toc_header *to, struct block_info *b)
{
    uint64_t old_at = (uint64_t)b->offset * FORMAT_PAGE, hash = 0, check = 0;
    struct check_identity identity, placed;
    struct member_header h;
    unsigned i;
    int rc = take_header(m, &h);

    if (rc)
        return rc;
    if (h.kind != MEMBER_BLOCK || (h.length && h.length != payload_bytes(b)))
        return damaged(m);
    member_hash_begin(&f->member, &h);
    b->offset = (uint32_t)(m->data_end / FORMAT_PAGE);
    for (i = 0; i < b->parts && h.length && !rc; i++) {
        payload_identity(m->fingerprint, to->segment_id, b, i, m->data_end, &placed);
        payload_identity(m->fingerprint, from->segment_id, b, i, old_at, &identity);
        rc = part_take(m, f, &placed, &hash, &check);
        if (!rc && format_check(&identity, hash) != b->check[i])
            rc = damaged(m);
        b->check[i] = check;
        old_at = round_up(old_at + b->length[i], FORMAT_PAGE);
    }
    if (!rc && hash64_end(&f->member) != h.checksum)
        rc = damaged(m);
    if (rc || !h.length)
        return rc;
    m->sum.blocks++;
    m->sum.bytes += h.length;
    m->ad.done = m->sum.bytes;
    rc = contents_out_block(&m->segments[m->nsegments - 1].contents, b);
    return rc ? rc : admin_progress(&m->ad, "importing");
}

static int contents_take(struct import *m, const uint8_t *body, size_t len, struct toc_header *from,
                         struct blocks *list)
{
    const struct toc_sink sink = {.block = on_block, .arg = list};
    struct toc_cursor cursor;
    int rc = len < FORMAT_PAGE ? -EBADMSG : toc_header_decode(body, from);

    if (rc)
        return err_set(rc, "the export has contents without a header");
    if (memcmp(from->space, m->fingerprint, sizeof from->space) != 0 || from->shards != m->shards)
        return err_set(-EBADMSG, "the export has contents of another space");
    if (from->flags)
        return err_set(-EBADMSG, "the export has encrypted contents, which cannot be");
    toc_cursor_init(&cursor, from->segment_id);
    rc = toc_parse(&cursor, body + FORMAT_PAGE, len - FORMAT_PAGE, true, &sink);
    if (rc < 0)
        return rc;
    if (rc != TOC_END || cursor.position != len)
        return err_set(-EBADMSG, "the export has contents that end torn");
    return 0;
}

static int segment_take(struct import *m, const struct member_header *h, struct flow *f)
{
    struct toc_header from, to = {0};
    struct blocks list = {0};
    uint8_t *body = NULL;
    size_t i;
    int rc = take_body(m, h, CONTENTS_MAX, &body);

    rc = rc ? rc : contents_take(m, body, h->length, &from, &list);
    free(body);
    rc = rc ? rc : room_use(m, &list);
    rc = rc ? rc : import_segment_begin(m, &from, &to);
    for (i = 0; i < list.count && !rc; i++)
        rc = block_take(m, f, &from, &to, &list.at[i]);
    rc = rc ? rc : import_segment_end(m);
    m->sum.segments += !rc;
    free(list.at);
    return rc;
}

static int end_take(struct import *m, const struct member_header *h)
{
    uint8_t *body = NULL, more;
    int rc = take_body(m, h, 24, &body);

    if (!rc && (h->length != 24 || le64_load(body) != m->sum.segments ||
                le64_load(body + 8) != m->sum.blocks || le64_load(body + 16) != m->sum.bytes))
        rc = err_set(-EBADMSG, "the export does not have what its end says");
    if (!rc && m->read(m->arg, &more, 1) != 0)
        rc = err_set(-EBADMSG, "there is something behind the end of the export");
    free(body);
    return rc;
}

static int members_take(struct import *m)
{
    struct member_header h;
    struct flow *f = aligned_alloc(_Alignof(struct flow), sizeof *f);
    bool ended = false;
    int rc = f ? 0 : err_set(-ENOMEM, "no memory for an import");

    while (!rc && !ended) {
        if ((rc = take_header(m, &h)))
            break;
        ended = h.kind == MEMBER_END;
        if (h.kind == MEMBER_CONTENTS)
            rc = segment_take(m, &h, f);
        else
            rc = ended ? end_take(m, &h) : damaged(m);
    }
    free(f);
    return rc;
}

static int import_run(struct import *m)
{
    struct container_header h;
    uint8_t bytes[128];
    int rc = take(m, bytes, sizeof bytes);

    if (rc || (rc = container_header_decode(bytes, &h)) || (rc = root_take(m, &h)) ||
        (rc = room_take(m)) || (rc = space_take(m)))
        return rc;
    m->beat_ns = clock_ns();
    (void)snprintf(m->sum.space, sizeof m->sum.space, "%s", m->space_name);
    rc = members_take(m);
    rc = rc ? rc : import_commit(m);
    if (rc) {
        char why[256];

        err_copy_text(why, sizeof why);
        import_undo(m);
        return rc == -ECANCELED ? rc : err_set(rc, "%s", why);
    }
    return 0;
}

int cistern_import(const struct cistern_admin *a, int64_t (*read)(void *arg, void *buf, size_t len),
                   void *arg, struct cistern_transfer_sum *sum)
{
    struct import m = {.read = read, .arg = arg, .data = {.fd = -1}};
    struct cistern_transfer_sum own;
    int rc;

    if (!read || (sum && config_take_struct(&own, sizeof own, sum)))
        return err_set(-EINVAL, "read is NULL, or the sum's size is not set");
    if ((rc = admin_open(&m.ad, a)))
        return rc;
    rc = m.ad.io->ops->ring_create(m.ad.io, &m.ring, 1, false);
    m.ring_open = rc == 0;
    rc = rc ? rc : admin_result(&m.ad, import_run(&m));
    import_release(&m);
    admin_close(&m.ad);
    if (!rc && sum)
        admin_give(sum, &m.sum, sizeof m.sum);
    return rc;
}
