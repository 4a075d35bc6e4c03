/*
 * fuzz_contents.c - a directory of contents and heads as the engine reads it, again and again,
 * while the files grow and storage fails.
 *
 * Input: files (a name, how to repair it, bytes), then looks (how far each file is seen, what
 * fails). The last look sees everything and nothing fails. Promises: every file that was looked at
 * has a result that it may have; bytes behind what a read gave are never looked at; in the end each
 * table of contents gave just what the reference reader finds in it, each head what it says.
 */
#include <errno.h>

#include "base/le.h"
#include "cistern.h"
#include "engine/contents.h"
#include "fake_dir.h"
#include "toc_reference.h"

#define SHARD   1
#define HOUR_NS (3600ull * 1000 * 1000 * 1000)

static struct fake_dir dir;
static struct contents_reader reader;
static struct toc_sink sink;
static struct toc_log found[FAKE_FILES];
static bool refuse; /* begin() of a job fails */

static struct toc_log *log_now(void)
{
    FUZZ_CHECK(reader.current->number < FAKE_FILES);
    return &found[reader.current->number];
}

static int on_block(void *arg, const struct block_info *b)
{
    struct toc_sink s = toc_log_sink(log_now());

    (void)arg;
    return s.block(s.arg, b);
}

static int on_dead(void *arg, const uint8_t key[32], const uint8_t segment_id[16], uint32_t offset,
                   uint8_t reason)
{
    struct toc_sink s = toc_log_sink(log_now());

    (void)arg;
    return s.dead(s.arg, key, segment_id, offset, reason);
}

static int on_aside(void *arg, const uint8_t segment_id[16], uint8_t reason)
{
    struct toc_sink s = toc_log_sink(log_now());

    (void)arg;
    return s.aside(s.arg, segment_id, reason);
}

static int begin(void *arg, struct contents_job *job)
{
    (void)arg;
    FUZZ_CHECK(job->header.writer == job->writer && job->header.seq == job->seq);
    FUZZ_CHECK(job->header.shard == SHARD && job->cursor.position == FORMAT_PAGE);
    return refuse ? -ENOMEM : 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    fake_dir_init(&dir);
    sink = (struct toc_sink){.block = on_block, .dead = on_dead, .aside = on_aside};
    reader.begin = begin;
    reader.sink = &sink;
    if (contents_reader_open(&reader, &dir.io, HOUR_NS))
        abort();
    return 0;
}

/* ---- Files ---- */

static void toc_page_make(uint8_t *page, uint64_t writer, uint64_t seq, uint8_t how)
{
    struct toc_header h = {.writer = writer ^ (how & 64 ? 1 : 0),
                           .seq = seq,
                           .shard = SHARD,
                           .shards = 4,
                           .segment_bytes = 1 << 20};

    memset(h.segment_id, 0x30 + (int)seq, sizeof h.segment_id);
    toc_header_encode(&h, page);
}

static void head_page_make(uint8_t *page, uint64_t writer, struct fuzz_in *in)
{
    struct head_record h = {.state = 1 + fuzz_u8(in) % 2, .writer = writer, .shards = 4};

    h.shard = fuzz_u8(in) % 8 ? SHARD : 0;
    h.counter = fuzz_u32(in);
    h.first_seq = fuzz_u8(in);
    h.next_seq = fuzz_u8(in);
    h.published = fuzz_u32(in);
    fuzz_bytes(in, h.host, 8);
    head_encode(&h, NULL, 0, page);
}

static void file_make(struct fuzz_in *in)
{
    uint8_t kind = fuzz_u8(in), how = fuzz_u8(in), id[16], odd[40];
    uint64_t writer = 0x10 + kind % 4, seq = kind / 4 % 4;
    struct fuzz_in body = fuzz_blob(in);
    char name[SEGMENT_NAME_MAX];
    size_t len = body.left + FORMAT_PAGE;
    uint8_t *bytes = calloc(1, len);

    memset(id, 0x30 + (int)seq, sizeof id);
    segment_name(name, writer, seq, kind & 64 ? ".seg" : ".toc");
    if (kind & 32)
        head_name(name, writer);
    if (kind & 128) {
        fuzz_bytes(&body, odd, sizeof odd - 1);
        odd[sizeof odd - 1] = 0;
        snprintf(name, sizeof name, "%s", (const char *)odd);
    }
    if (how & 32) { /* as it is */
        len = body.left;
        fuzz_bytes(&body, bytes, len);
    } else if (kind & 32) {
        head_page_make(bytes, writer, &body);
    } else {
        toc_page_make(bytes, writer, seq, how);
        fuzz_bytes(&body, bytes + FORMAT_PAGE, len - FORMAT_PAGE);
        toc_repair(bytes + FORMAT_PAGE, len - FORMAT_PAGE, FORMAT_PAGE, id, how & 3);
    }
    (void)fake_dir_add(&dir, name, bytes, len);
}

/* ---- Looking ---- */

static void result_check(const struct contents_job *job, bool faults)
{
    FUZZ_CHECK(job->file.fd < 0);
    if (faults)
        return;
    FUZZ_CHECK(job->result == 0 || job->result == -ENODATA || job->result == -EBADMSG ||
               job->result == CISTERN_EFORMAT || (refuse && job->result == -ENOMEM));
    if (!job->result && !job->is_head)
        FUZZ_CHECK(job->end == TOC_END || job->end == TOC_TORN || job->end == TOC_LATER);
}

static void look(struct contents_list *list, bool faults)
{
    size_t i;
    int rc;

    for (i = 0; i < list->count; i++) {
        struct contents_job *job = &list->at[i];

        job->result = job->open_rc = job->data_rc = job->end = 0;
        job->file.fd = job->data.fd = -1;
    }
    rc = contents_run(&reader, list->at, list->count);
    FUZZ_CHECK(rc == 0 || (faults && (rc == -ETIMEDOUT || rc == -EIO)));
    for (i = 0; i < list->count; i++) {
        if (list->at[i].data.fd >= 0)
            dir.io.ops->file_close(&dir.io, &list->at[i].data);
        result_check(&list->at[i], faults);
    }
}

static void faults_take(struct fuzz_in *in)
{
    uint8_t which = fuzz_u8(in);

    refuse = which & 16;
    reader.timeout_ns = which & 32 ? 0 : HOUR_NS;
    if (which & 1)
        dir.faults.open_fails = fuzz_u8(in) % 8;
    if (which & 2)
        dir.faults.read_fails = fuzz_u8(in) % 8;
    if (which & 4)
        dir.faults.wait_fails = fuzz_u8(in) % 4;
    if (which & 8)
        dir.faults.read_most = fuzz_u16(in);
}

static void looks_make(struct fuzz_in *in, struct contents_list *list)
{
    unsigned n = fuzz_u8(in) % 4;
    int i;

    for (i = 0; i < dir.count; i++)
        dir.files[i].seen = 0;
    while (n--) {
        for (i = 0; i < dir.count; i++) {
            struct fake_file *f = &dir.files[i];
            size_t more = fuzz_u16(in);

            f->seen = more < f->len - f->seen ? f->seen + more : f->len;
        }
        faults_take(in);
        look(list, true);
        fake_dir_no_faults(&dir);
        reader.timeout_ns = HOUR_NS;
        refuse = false;
    }
    for (i = 0; i < dir.count; i++)
        dir.files[i].seen = dir.files[i].len;
    look(list, false);
}

/* ---- What must be known in the end ---- */

static void toc_job_check(const struct contents_job *job, const struct fake_file *f)
{
    struct toc_log reference = {0};
    struct toc_header h;
    int rc = f->len == 0 ? -ENODATA : f->len < FORMAT_PAGE ? -EBADMSG : 0;

    rc = rc ? rc : toc_header_decode(f->bytes, &h);
    if (!rc && (h.writer != job->writer || h.seq != job->seq || h.shard != SHARD))
        rc = -EBADMSG;
    FUZZ_CHECK(job->result == rc);
    if (!rc) {
        toc_reference(f->bytes + FORMAT_PAGE, f->len - FORMAT_PAGE, FORMAT_PAGE, 0, h.segment_id,
                      &reference);
        toc_log_take_cursor(&found[job->number], &job->cursor, job->end);
        toc_logs_equal(&found[job->number], &reference);
        FUZZ_CHECK(job->end == reference.end);
    }
    toc_log_free(&reference);
}

static void head_job_check(const struct contents_job *job, const struct fake_file *f)
{
    struct head_record h;
    int rc = f->len == 0 ? -ENODATA : f->len < FORMAT_PAGE ? -EBADMSG : head_decode(f->bytes, &h);

    if (!rc && (h.writer != job->writer || h.shard != SHARD))
        rc = -EBADMSG;
    FUZZ_CHECK(job->result == rc);
    if (!rc)
        FUZZ_CHECK(memcmp(&h, &job->head, sizeof h) == 0);
}

static void job_check(const struct contents_job *job)
{
    char path[SEGMENT_NAME_MAX];
    struct fake_file *f;

    if (job->is_head)
        head_name(path, job->writer);
    else
        segment_name(path, job->writer, job->seq, ".toc");
    f = fake_dir_find(&dir, path);
    FUZZ_CHECK(f != NULL);
    if (job->is_head)
        head_job_check(job, f);
    else
        toc_job_check(job, f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    struct contents_list list = {0};
    unsigned files = 1 + fuzz_u8(&in) % 7;
    size_t i;

    while (files--)
        file_make(&in);
    FUZZ_CHECK(contents_list_dir(&dir.io, "d", SHARD, &list) == 0);
    FUZZ_CHECK(list.count <= (size_t)dir.count);
    for (i = 0; i < list.count; i++) {
        list.at[i].number = (uint32_t)i;
        list.at[i].want_data = i & 1;
    }
    looks_make(&in, &list);
    for (i = 0; i < list.count; i++)
        job_check(&list.at[i]);
    FUZZ_CHECK(contents_run(&reader, NULL, 0) == 0); /* takes in what came late */
    for (i = 0; i < FAKE_FILES; i++)
        toc_log_free(&found[i]);
    contents_list_free(&list);
    fake_dir_clear(&dir);
    return 0;
}
