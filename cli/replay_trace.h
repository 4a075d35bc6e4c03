/*
 * replay_trace.h - requests of a trace: who asked for which blocks, and when. No time is measured
 * and no store is touched here.
 *
 * One thread. Messages go through cli_fail().
 */
#ifndef CLI_REPLAY_TRACE_H
#define CLI_REPLAY_TRACE_H

#include <stddef.h>
#include <stdint.h>

struct replay_request {
    double at;       /* seconds since the first one */
    uint32_t tokens; /* of the prompt */
    uint32_t count;  /* blocks */
    size_t first;    /* in ids */
};

/* Zero it before the first load; several loads are merged by time. */
struct replay_trace {
    struct replay_request *requests;
    uint32_t *ids; /* numbered from 0 without gaps, over all files */
    size_t nrequests, room_requests, nids, room_ids;
    uint32_t blocks, distinct;
    uint32_t block_tokens;
    uint64_t next_id; /* while loading: the first that no file has used */
};

/*
 * A .jsonl of Mooncake's form, a .json session of kv-cache-tester's, or a directory of those, which
 * run side by side. CLI_OK, or an exit code after a message that names the place.
 */
int replay_trace_load(struct replay_trace *t, const char *path);
/* In order of time; the first `limit` requests (0 = all). */
int replay_trace_finish(struct replay_trace *t, uint64_t limit);
void replay_trace_free(struct replay_trace *t);

#endif
