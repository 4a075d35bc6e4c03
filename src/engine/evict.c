/*
 * evict.c - forgetting segments.
 *
 * Threads: the keeper, and the opener before the keeper runs.
 */
#include "engine/evict.h"

uint64_t segment_forget(cistern *c, uint32_t number)
{
    uint64_t blocks = 0;

    if (!segtab_in_use(&c->segs, number))
        return 0;
    /* The index first: a match that is asked from here on does not promise it, and a get that found
     * it before still finds the file open. */
    blocks = index_remove_segment(c->index, number);
    (void)segtab_forget(&c->segs, number);
    return blocks;
}
