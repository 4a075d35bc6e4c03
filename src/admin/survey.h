/*
 * survey.h - what a root directory holds: names, sizes, heads, contents. Never payloads.
 *
 * A survey is a picture; other processes go on. Two of them with time between tell who is silent.
 */
#ifndef ADMIN_SURVEY_H
#define ADMIN_SURVEY_H

#include "admin/admin.h"
#include "key/key.h"
#include "segment/root.h"
#include "segment/toc.h"

enum owner_state {
    OWNER_UNKNOWN = 0, /* not closed, and not watched */
    OWNER_CLOSED,      /* its head says so */
    OWNER_SILENT,      /* nothing changed while it was watched, and its process is not seen */
    OWNER_LIVE
};

/* Why contents end torn. */
enum torn_kind {
    TORN_BYTES,  /* no frame, or its checksum is wrong */
    TORN_NUMBER, /* a whole frame, of another place, number or segment */
    TORN_RECORDS /* a whole frame whose records contradict each other or reach beyond the data */
};

struct survey_segment {
    uint64_t writer, seq;
    bool has_toc, has_data;
    struct io_stat toc_stat, data_stat;
    int toc_rc; /* 0; -ENODATA: empty; -EBADMSG; -ESTALE: of another file; CISTERN_EFORMAT; else
                   what storage answered */
    char toc_text[160];
    int end; /* enum toc_end, when toc_rc is 0 */
    enum torn_kind torn;
    struct toc_header header;
    struct toc_cursor cursor;
    uint64_t payload_bytes;
    uint64_t data_end; /* end of the last payload */
    uint64_t marks;    /* dead and aside records in it */
    bool aside;        /* some contents of the shard set it aside */
    bool locked;       /* encrypted with a key that was not given: only its structure is known */
    uint8_t key_id[CRYPT_ID], key[CRYPT_KEY]; /* of encrypted contents: master's id, own key */
};

struct survey_writer {
    uint64_t id;
    bool has_head;
    struct io_stat head_stat;
    int head_rc; /* as toc_rc */
    char head_text[160];
    struct head_record head;
    uint32_t touches[HEAD_TOUCHES_MAX]; /* of the head: newest segment first */
    uint64_t picture; /* hash of the head and of names, sizes and times of all its files */
    enum owner_state state;
    size_t first, count; /* its segments */
};

/* A dead or aside record; an aside has an offset of UINT32_MAX and no key. */
struct survey_mark {
    uint8_t segment_id[16], key[32];
    uint32_t offset;
    uint8_t reason;
};

enum other_kind { OTHER_TEMPORARY, OTHER_FOREIGN, OTHER_PIN };
struct survey_other {
    char name[256];
    enum other_kind kind;
    struct io_stat stat;
    enum owner_state state; /* of a temporary file */
};
struct survey_others {
    struct survey_other *at;
    size_t count;
};

struct survey_shard {
    char dir[ADMIN_PATH]; /* relative to the mount */
    uint32_t shard, shards;
    struct io_stat stat;
    struct survey_writer *writers; /* by id */
    size_t nwriters;
    struct survey_segment *segments; /* by writer, seq */
    size_t nsegments;
    struct survey_mark *marks; /* sorted */
    size_t nmarks;
    struct survey_others others;
};

struct survey_space {
    char name[256];
    char dir[ADMIN_PATH];
    struct io_stat stat;
    int64_t json_len; /* of space.json, or a negative errno */
    char *json;       /* NUL behind it */
    struct io_stat json_stat;
    bool retired;
    struct io_stat retired_stat;
    bool ttl; /* has such a file */
    struct io_stat ttl_stat;
    int inspect_rc; /* 0: shards and fingerprint are of space.json */
    uint32_t json_shards;
    uint8_t fingerprint[32];
    struct survey_shard *shards;
    size_t nshards;
    struct survey_others others;
};

struct survey {
    char root[ADMIN_PATH];
    struct survey_space *spaces; /* by name; only those that are wanted */
    size_t nspaces;
    size_t unwanted; /* spaces that the caller did not ask for */
    struct survey_others others;
    bool has_json, has_salt;
    struct io_stat stat, json_stat, salt_stat;
};

/* `contents`: parse them too. -ENOENT: there is no such root. */
int survey_take(struct admin *ad, bool contents, struct survey *out) MUST_CHECK;
/* Names of spaces and what lies in their directories; nothing of shards. */
int survey_names(struct admin *ad, struct survey *out) MUST_CHECK;
void survey_free(struct survey *v); /* accepts a zeroed one */
/* Compares with an earlier picture and the processes of this host: fills in who is silent. */
void survey_judge(const struct survey *before, struct survey *now);

/* Looks again after silence_ms and judges: *v becomes the later picture. */
int survey_watch(struct admin *ad, struct survey *v) MUST_CHECK;

/* The writer of a segment; never NULL. */
struct survey_writer *survey_writer_of(struct survey_shard *sh, uint64_t id);
/* Why a copy is not to be used: enum dead_reason, 0 = nobody said so. */
uint8_t survey_dead(const struct survey_shard *sh, const uint8_t segment_id[16],
                    const uint8_t key[32], uint32_t offset);
/* Every block of one segment again, in the order of its contents. */
int survey_blocks(struct admin *ad, const struct survey_shard *sh, const struct survey_segment *seg,
                  int (*block)(void *arg, const struct block_info *b), void *arg) MUST_CHECK;
void survey_segment_path(const struct survey_shard *sh, const struct survey_segment *seg,
                         const char *suffix, char out[ADMIN_PATH]);
void survey_head_path(const struct survey_shard *sh, uint64_t writer, char out[ADMIN_PATH]);
/* The only space of the picture; CISTERN_ESPACE with a text where there is none or another. */
int survey_one(const struct admin *ad, const struct survey *v,
               const struct survey_space **out) MUST_CHECK;
/* Its space.json names this model. */
bool survey_model_is(const struct survey_space *sp, const char *model);
/* "<name>-<32 hex digits>" */
bool survey_named_like_space(const char *dir);
/* May contents with this fingerprint be of this directory? */
bool survey_space_is(const struct survey_space *sp, const uint8_t fingerprint[32]);
/* CISTERN_EKEY, naming the key, if the contents of a segment are locked. */
int survey_unlocked(const struct survey *v) MUST_CHECK;
/* Allocated bytes of everything that belongs to Cistern. */
uint64_t survey_usage(const struct survey *v);
bool survey_ended(enum owner_state s);
/* Storage did not say what its contents are. What nobody can read as contents says nothing, and
 * nobody finds anything by it. */
bool survey_unread(const struct survey_segment *seg);

#endif
