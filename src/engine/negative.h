/*
 * negative.h - copies that turned out bad: not tried again for a while, whoever brings them back.
 *
 * A bad copy is taken out of the index at once; but contents that are read again would bring it
 * back, and a handle that writes nothing has no other memory of it. The table is small and fixed; a
 * newer note may push an older one out, which costs another look at a bad copy. Any thread, no
 * lock: a note is two words that need not agree for more than a miss or a try too many.
 */
#ifndef ENGINE_NEGATIVE_H
#define ENGINE_NEGATIVE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cistern.h"

#define NEGATIVE_NOTES 1024u

struct negative {
    _Atomic uint32_t used; /* 0 until the first note: nothing to look for */
    struct {
        _Atomic uint64_t name, until_ns;
    } note[NEGATIVE_NOTES];
};

void negative_add(struct negative *n, const cistern_key *key, uint32_t segment, uint32_t offset,
                  uint64_t until_ns);
bool negative_holds(const struct negative *n, const cistern_key *key, uint32_t segment,
                    uint32_t offset);

#endif
