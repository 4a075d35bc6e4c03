/*
 * strict.c - the sharp edges of the real library, on request (CISTERN_USRBIO_STRICT), so that a
 * client that works here works on 3FS too. Slow on purpose where it must be: it asks the file
 * system where the data lies.
 *
 *   holes     a read ends where the data in its range ends, even below st_size
 *   crossing  an I/O that crosses a block of its iov completes with -EINVAL
 *   exact     io_depth > 0: only whole batches are started; < 0: at most that many in a batch
 *   overlap   reads of one batch whose buffers overlap fail with -EIO, all of the batch
 *   stale     a number closed without deregistration cannot be registered again
 *   enodata   no switch: a ring that forbids holes gets -ENODATA in every mode
 */
#include "usrbio/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    size_t offset;
} switches[] = {
    {"holes", offsetof(struct strict, holes)}, {"crossing", offsetof(struct strict, crossing)},
    {"exact", offsetof(struct strict, exact)}, {"overlap", offsetof(struct strict, overlap)},
    {"stale", offsetof(struct strict, stale)},
};

#define SWITCHES (sizeof(switches) / sizeof(switches[0]))

static bool *switch_at(struct strict *strict, size_t i)
{
    return (bool *)((char *)strict + switches[i].offset);
}

static bool word_is(const char *text, size_t len, const char *name)
{
    return strlen(name) == len && memcmp(text, name, len) == 0;
}

void strict_parse(struct strict *strict, const char *text)
{
    memset(strict, 0, sizeof(*strict));
    while (text != NULL && *text != '\0') {
        size_t len = strcspn(text, ",: ");
        bool all = word_is(text, len, "1") || word_is(text, len, "all");

        for (size_t i = 0; i < SWITCHES; i++) {
            if (all || word_is(text, len, switches[i].name))
                *switch_at(strict, i) = true;
        }
        text += len;
        text += *text != '\0';
    }
}

int strict_describe(const struct strict *strict, char *buf, size_t size)
{
    struct strict copy = *strict;
    size_t used = 0;

    buf[0] = '\0';
    for (size_t i = 0; i < SWITCHES; i++) {
        if (*switch_at(&copy, i) && used < size)
            used += (size_t)snprintf(buf + used, size - used, "%s%s", used > 0 ? "," : "",
                                     switches[i].name);
    }
    if (used == 0)
        return snprintf(buf, size, "none");
    return (int)used;
}

static bool overlaps(const struct slot *a, const struct slot *b)
{
    return a->ptr < b->ptr + b->len && b->ptr < a->ptr + a->len;
}

static void check_overlap(struct slot_list *batch)
{
    bool found = false;

    for (struct slot *a = batch->head; a != NULL && !found; a = a->next) {
        for (struct slot *b = a->next; b != NULL && !found; b = b->next)
            found = overlaps(a, b);
    }
    for (struct slot *a = batch->head; a != NULL && found; a = a->next)
        a->result = -EIO;
}

static unsigned take_batch(struct ior *ior, struct slot_list *batch, unsigned n)
{
    list_init(batch);
    for (unsigned i = 0; i < n; i++)
        list_push(batch, list_pop(&ior->prepared));
    return n;
}

/* Moves what may start now from `prepared` to `out`. */
void strict_pick(struct ior *ior, struct slot_list *out)
{
    const struct strict *strict = &the_proc.strict;
    unsigned waiting = atomic_load_explicit(&ior->waiting_to_start, memory_order_relaxed);
    unsigned depth = (unsigned)(ior->io_depth < 0 ? -(int64_t)ior->io_depth : ior->io_depth);
    struct slot_list batch;
    struct slot *slot;

    if (!strict->exact && !strict->overlap) {
        list_move(out, &ior->prepared);
        waiting = 0;
    }
    if (!strict->exact || depth == 0)
        depth = waiting;
    while (waiting > 0 && (waiting >= depth || ior->io_depth < 0)) {
        waiting -= take_batch(ior, &batch, waiting < depth ? waiting : depth);
        if (strict->overlap && ior->for_read)
            check_overlap(&batch);
        while ((slot = list_pop(&batch)) != NULL)
            list_push(out, slot);
    }
    atomic_store_explicit(&ior->waiting_to_start, waiting, memory_order_relaxed);
}

/* Looks for holes in a read before it runs. Shortens it to where data ends (strict), or fails it
 * (forbidden). */
bool strict_clip(struct slot *slot)
{
    bool forbid = slot->ior->forbid_holes, hole = false;
    off_t pos = (off_t)slot->off, end = (off_t)(slot->off + slot->len), last = pos;
    int fd = regfd_seek(slot->file);

    if (fd < 0 || end < pos)
        return false;
    while (pos < end) {
        off_t data = lseek(fd, pos, SEEK_DATA), next;

        if (data < 0 && errno != ENXIO)
            return false; /* this file system does not tell */
        if (data < 0 || data >= end)
            break;
        hole |= data > pos;
        next = lseek(fd, data, SEEK_HOLE);
        if (next < 0)
            return false;
        last = next < end ? next : end;
        pos = last;
    }
    if (forbid && hole) {
        slot->result = -ENODATA;
        return true;
    }
    if (!the_proc.strict.holes)
        return false;
    if (last == (off_t)slot->off) {
        slot->result = 0;
        return true;
    }
    slot->len = (uint64_t)last - slot->off;
    return false;
}
