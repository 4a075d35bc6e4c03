/* follow.h - what the follower remembers between two looks. */
#ifndef ENGINE_FOLLOW_H
#define ENGINE_FOLLOW_H

#include "engine/contents.h"

struct follower {
    struct contents_reader reader;
    struct toc_sink sink;
    bool first; /* the look of the open: damage is counted */
    struct dead_note *dead;
    size_t dead_count, dead_room;
    uint32_t number, number_shard; /* segment of the job that is being parsed */
    uint32_t batched;
    struct block_info batch[63];
};

#endif
