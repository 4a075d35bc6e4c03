/*
 * pins.c - cistern_pin_add(), cistern_pin_list(), cistern_pin_remove().
 *
 * A pin is written whole under a temporary name and never changed. The bound, half of the capacity,
 * is judged by what the pins say of themselves: two that are made at once may pass it together.
 */
#include "admin/pins.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "admin/explain.h"
#include "base/clock.h"
#include "engine/config.h"

#define PINNED_PART 2u /* of the capacity may be pinned: one part in so many */

/* ---- Reading ---- */

static int read_pin(struct admin *ad, struct pins_item *p, uint8_t *bytes)
{
    int64_t n = ad->io->ops->small_read(ad->io, p->path, bytes, PIN_BYTES_MAX);

    err_clear();
    if (n == -EFBIG)
        p->rc = err_set(-EBADMSG, "too long for a pin");
    else
        p->rc = n < 0 ? (int)n : pin_decode(bytes, (size_t)n, &p->pin);
    if (!p->rc && !survey_space_is(p->space, p->pin.space))
        p->rc = err_set(-ESTALE, "it is of another space");
    (void)snprintf(p->text, sizeof p->text, "%s",
                   p->rc && err_text()[0] ? err_text() : cistern_error_string(p->rc));
    p->holds = !p->rc && pin_holds(&p->pin, clock_wall_s());
    return admin_ends_all(p->rc) ? p->rc : 0;
}

int pins_visit(struct admin *ad, const struct survey *v,
               int (*visit)(void *arg, const struct pins_item *p), void *arg)
{
    uint8_t *bytes = malloc(PIN_BYTES_MAX);
    size_t i, j;
    int rc = bytes ? 0 : err_set(-ENOMEM, "no memory for pins");

    for (i = 0; i < v->nspaces && !rc; i++) {
        const struct survey_space *sp = &v->spaces[i];

        for (j = 0; j < sp->others.count && !rc; j++) {
            struct pins_item p = {.space = sp, .file = &sp->others.at[j]};

            if (p.file->kind != OTHER_PIN)
                continue;
            (void)snprintf(p.path, sizeof p.path, "%.500s/%.255s", sp->dir, p.file->name);
            rc = read_pin(ad, &p, bytes);
            if (!rc && p.rc != -ENOENT) /* removed meanwhile */
                rc = visit(arg, &p);
        }
    }
    free(bytes);
    return rc;
}

/* ---- Keys ---- */

struct taking {
    const struct survey_space *space;
    struct pins_keys *keys;
};

static int take_keys(void *arg, const struct pins_item *p)
{
    const struct taking *t = arg;
    uint32_t i;

    for (i = 0; p->holds && p->space == t->space && i < p->pin.nkeys; i++) {
        uint8_t(*one)[32] = admin_grow(&t->keys->at, t->keys->count, sizeof *one);

        if (!one)
            return -ENOMEM;
        t->keys->count++;
        memcpy(*one, p->pin.keys + 32 * (size_t)i, sizeof *one);
    }
    return 0;
}

static int by_bytes(const void *a, const void *b)
{
    return memcmp(a, b, 32);
}

int pins_keys_take(struct admin *ad, const struct survey *v, const struct survey_space *sp,
                   struct pins_keys *out)
{
    struct taking t = {.space = sp, .keys = out};
    int rc;

    *out = (struct pins_keys){0};
    rc = pins_visit(ad, v, take_keys, &t);
    if (!rc && out->count)
        qsort(out->at, out->count, sizeof *out->at, by_bytes);
    return rc;
}

bool pins_keys_have(const struct pins_keys *k, const uint8_t key[32])
{
    return k->count && bsearch(key, k->at, k->count, sizeof *k->at, by_bytes);
}

void pins_keys_free(struct pins_keys *k)
{
    free(k->at);
    *k = (struct pins_keys){0};
}

/* ---- Listing and removing ---- */

struct listing {
    struct admin ad;
    struct survey v;
    const char *wanted; /* to be removed: id or label; NULL = all are listed */
    int (*callback)(void *arg, const struct cistern_pin *pin);
    void *arg;
    int count;
};

static int on_pin(void *arg, const struct pins_item *p)
{
    struct listing *l = arg;
    char id[17];
    struct cistern_pin out = {.space = p->space->name,
                              .path = p->path,
                              .id = id,
                              .label = p->rc ? p->text : p->pin.label,
                              .created_s = p->pin.created_s,
                              .expires_s = p->pin.expires_s,
                              .bytes = p->pin.bytes,
                              .keys = p->pin.nkeys,
                              .state = p->rc      ? CISTERN_PIN_BAD
                                       : p->holds ? CISTERN_PIN_HOLDS
                                                  : CISTERN_PIN_EXPIRED};
    int rc = 0;

    (void)snprintf(id, sizeof id, "%.16s", p->file->name);
    if (l->wanted) {
        if (strcmp(l->wanted, id) != 0 && (p->rc || strcmp(l->wanted, p->pin.label) != 0))
            return 0;
        rc = l->ad.io->ops->unlink(l->ad.io, p->path);
        if (rc && rc != -ENOENT)
            return err_set(rc, "%s cannot be removed: %s", p->path, cistern_error_string(rc));
    }
    l->count++;
    return l->callback ? admin_answer(&l->ad, l->callback(l->arg, &out)) : 0;
}

static int listing_run(struct listing *l, const struct cistern_admin *a)
{
    int rc = admin_open(&l->ad, a);

    if (rc)
        return rc;
    rc = survey_names(&l->ad, &l->v);
    rc = rc ? rc : pins_visit(&l->ad, &l->v, on_pin, l);
    rc = admin_result(&l->ad, rc);
    survey_free(&l->v);
    admin_close(&l->ad);
    return rc;
}

int cistern_pin_list(const struct cistern_admin *a,
                     int (*callback)(void *arg, const struct cistern_pin *pin), void *arg)
{
    struct listing l = {.callback = callback, .arg = arg};

    if (!callback)
        return err_set(-EINVAL, "callback is NULL");
    return listing_run(&l, a);
}

int cistern_pin_remove(const struct cistern_admin *a, const char *id_or_label,
                       int (*callback)(void *arg, const struct cistern_pin *pin), void *arg)
{
    struct listing l = {.wanted = id_or_label, .callback = callback, .arg = arg};
    int rc;

    if (!id_or_label || !*id_or_label)
        return err_set(-EINVAL, "which pin? An id or a label is needed");
    rc = listing_run(&l, a);
    return rc ? rc : l.count;
}

/* ---- Adding ---- */

/* Bytes of one key on all shards, the newest copy of each; a shard without one counts as full. */
static uint64_t key_bytes(const struct explain *x, size_t key, bool *everywhere)
{
    uint64_t bytes = 0;
    uint32_t shard, found = 0;
    size_t i;

    for (shard = 0; shard < x->shards; shard++) {
        for (i = explain_first(x, key); i < x->ncopies && x->copies[i].key == key; i++) {
            const struct explain_copy *c = &x->copies[i];

            if (c->space == x->space && c->shard->shard == shard && !c->dead &&
                !c->segment->aside) {
                bytes += block_extent(&c->info);
                found++;
                break;
            }
        }
    }
    *everywhere = found == x->shards;
    return bytes + (x->shards - found) * x->block_bytes;
}

static int add_bytes(void *arg, const struct pins_item *p)
{
    uint64_t *sum = arg;

    if (p->holds)
        *sum += p->pin.bytes;
    return 0;
}

static int count(struct explain *x, struct cistern_pin_sum *sum)
{
    bool everywhere;
    uint64_t capacity;
    size_t i;
    int rc;

    if (x->nprompt > PIN_KEYS_MAX)
        return err_set(-EINVAL, "%zu keys: a pin has at most %u", x->nprompt, PIN_KEYS_MAX);
    sum->keys = x->nprompt;
    for (i = 0; i < x->nprompt; i++) {
        sum->bytes += key_bytes(x, i, &everywhere);
        sum->missing += !everywhere;
    }
    sum->total_bytes = sum->bytes;
    if ((rc = pins_visit(&x->ad, &x->v, add_bytes, &sum->total_bytes)))
        return rc;
    if ((rc = root_capacity(x->ad.io, x->ad.cfg.root, &capacity)))
        return err_set(rc, "the capacity of the root cannot be read from cistern.json");
    sum->most_bytes = capacity / PINNED_PART;
    if (capacity && sum->total_bytes > sum->most_bytes)
        return err_set(-EDQUOT,
                       "%" PRIu64 " bytes would be pinned, %" PRIu64
                       " of them by this pin; half of the capacity is %" PRIu64,
                       sum->total_bytes, sum->bytes, sum->most_bytes);
    return 0;
}

static int write_pin(struct explain *x, const struct cistern_pin_new *how,
                     struct cistern_pin_sum *sum)
{
    struct pin_record p = {.created_s = clock_wall_s(),
                           .expires_s = how->expires_s,
                           .bytes = sum->bytes,
                           .nkeys = (uint32_t)x->nprompt,
                           .keys = x->keys[0].b};
    size_t len = sizeof(struct pin_header) + 32 * x->nprompt;
    char name[PIN_NAME_MAX], path[ADMIN_PATH];
    uint8_t *bytes;
    uint64_t id;
    int rc;

    memcpy(p.space, x->space->fingerprint, sizeof p.space);
    (void)snprintf(p.label, sizeof p.label, "%s", how->label ? how->label : "");
    if (getrandom(&id, sizeof id, 0) != sizeof id)
        return err_set(-EIO, "no random bytes");
    pin_name(name, id);
    (void)snprintf(sum->id, sizeof sum->id, "%.16s", name);
    if ((rc = admin_path(&x->ad, path, x->space->name, name)))
        return rc;
    if (!(bytes = malloc(len)))
        return err_set(-ENOMEM, "no memory for a pin");
    pin_encode(&p, bytes);
    rc = x->ad.io->ops->small_write(x->ad.io, path, bytes, len, true);
    free(bytes);
    return rc ? err_set(rc, "%s cannot be written: %s", path, cistern_error_string(rc)) : 0;
}

int cistern_pin_add(const struct cistern_admin *a, const struct cistern_prefix *prefix,
                    const struct cistern_pin_new *how, struct cistern_pin_sum *sum)
{
    struct cistern_pin_sum own = {0}, theirs;
    struct cistern_pin_new n;
    struct explain x = {0};
    int rc = config_take_struct(&n, sizeof n, how);

    if (rc || (sum && (rc = config_take_struct(&theirs, sizeof theirs, sum))))
        return rc;
    if (n.label && strlen(n.label) >= PIN_LABEL)
        return err_set(-EINVAL, "the label is too long: at most %u bytes", PIN_LABEL - 1);
    rc = explain_begin(&x, a, prefix);
    rc = rc ? rc : count(&x, &own);
    if (!rc && !(x.ad.opt.flags & CISTERN_ADMIN_DRY_RUN))
        rc = write_pin(&x, &n, &own);
    rc = admin_result(&x.ad, rc);
    explain_end(&x);
    if (!rc && sum)
        admin_give(sum, &own, sizeof own);
    return rc;
}
