/*
 * tenant.h - what one shard has of a tenant, and what has to be said before that is removed.
 */
#ifndef ADMIN_TENANT_H
#define ADMIN_TENANT_H

#include "admin/survey.h"
#include "engine/engine.h"

enum tenant_fate {
    TENANT_NONE,   /* nothing of the tenant, or nothing that anybody finds */
    TENANT_GOES,   /* sealed: the segment can be removed */
    TENANT_GROWS,  /* its writer may still write to it */
    TENANT_UNREAD, /* storage, or nobody, can tell what is in it */
    TENANT_LATER   /* a later version wrote it, or a part of it */
};

struct tenant_segment {
    enum tenant_fate fate;
    bool known; /* it has an id */
    bool whole; /* its contents were read to their end, and nothing follows */
    uint8_t id[16];
    uint64_t blocks, bytes;             /* of the tenant, dead copies too */
    uint64_t other_blocks, other_bytes; /* that others find now */
    uint64_t said;                      /* records about copies that are not to be used */
    uint64_t recorded;                  /* blocks, whosever */
};

/* A record of the segment `from`; of the tenant's copies: what is to be one. */
struct tenant_note {
    struct dead_note note;
    size_t from;
};

struct tenant_notes {
    struct tenant_note *at;
    size_t count;
};

/* Ids of segments. */
struct tenant_ids {
    uint8_t (*at)[16];
    size_t count;
};

struct tenant_shard {
    const struct survey_space *space;
    struct survey_shard *shard;
    struct tenant_segment *at; /* for each of the shard's segments */
    struct tenant_notes said;  /* sorted */
    struct tenant_notes copies;
    struct tenant_ids ids; /* of all that is there, sorted */
    bool unread;           /* there may be others */
    struct toc_header of;  /* of some contents; shards 0: there are none */
};

/* Reads all contents of a shard of the picture. *out is to be freed whatever it returns. */
int tenant_look(struct admin *ad, const struct survey_space *sp, struct survey_shard *sh,
                const uint8_t mark[KEY_MARK], struct tenant_shard *out) MUST_CHECK;
/*
 * What nobody may forget once the segments that go are gone, or cannot know yet: the tenant's
 * copies, all of them; and what those segments say of others. Without what a segment says that
 * stays. free() it.
 */
int tenant_unsaid(const struct tenant_shard *t, struct dead_note **out, size_t *n) MUST_CHECK;
/* It has no blocks, and nothing that it speaks of is there, or is in `seen`, which is sorted. */
bool tenant_is_empty_talk(const struct tenant_shard *t, size_t segment,
                          const struct tenant_ids *seen);
/* Adds those of the segments that stay. */
int tenant_see(const struct tenant_shard *t, struct tenant_ids *seen) MUST_CHECK;
void tenant_sort(struct tenant_ids *ids);
void tenant_free(struct tenant_shard *t); /* accepts a zeroed one */

#endif
