/*
 * dump.c - what the reading code of src/segment finds in a store, as JSON: the other side of the
 * comparison with expected.json and with tools/cistern_read.py.
 *
 *   dump DIRECTORY-OF-A-SPACE
 */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "segment/toc.h"

struct buffer {
    uint8_t *bytes;
    size_t len;
};

struct walk {
    struct toc_header header;
    struct buffer data;
    const char *between;
};

static struct buffer file_read(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct buffer b = {malloc(1 << 22), 0};

    if (!b.bytes)
        exit(4);
    if (f) {
        b.len = fread(b.bytes, 1, 1 << 22, f);
        fclose(f);
    }
    return b;
}

static void print_hex(const uint8_t *p, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++)
        printf("%02x", p[i]);
}

static int part_good(const struct walk *w, const struct block_info *b, struct check_identity *i,
                     uint64_t check)
{
    memcpy(i->space, w->header.space, 32);
    memcpy(i->segment_id, w->header.segment_id, 16);
    memcpy(i->key, b->key, 32);
    return i->offset + i->length <= w->data.len &&
           format_check(i, hash64(w->data.bytes + i->offset, i->length)) == check;
}

static int print_block(void *arg, const struct block_info *b)
{
    struct walk *w = arg;
    uint64_t at = (uint64_t)b->offset * FORMAT_PAGE;
    unsigned part, i = 0;

    printf("%s\n    {\"kind\": \"block\", \"key\": \"", w->between);
    print_hex(b->key, 32);
    printf("\", \"depth\": %u, \"offset\": %" PRIu64 ", \"mask\": %u, \"parts\": [", b->depth, at,
           b->mask);
    w->between = ",";
    for (part = 0; part < FORMAT_MAX_PARTS; part++) {
        struct check_identity id = {.part = part};

        if (!(b->mask >> part & 1))
            continue;
        id.offset = at;
        id.length = b->length[i];
        printf("%s{\"part\": %u, \"offset\": %" PRIu64 ", \"length\": %u, \"ok\": %s}",
               i ? ", " : "", part, at, id.length,
               part_good(w, b, &id, b->check[i]) ? "true" : "false");
        at += (id.length + FORMAT_PAGE - 1ull) / FORMAT_PAGE * FORMAT_PAGE;
        i++;
    }
    printf("]}");
    return 0;
}

static const char *reason_name(uint8_t reason)
{
    static const char *const names[] = {"", "deleted", "checksum", "length", "io"};

    return reason < 5 ? names[reason] : "?";
}

static int print_dead(void *arg, const uint8_t key[32], const uint8_t segment_id[16],
                      uint32_t offset, uint8_t reason)
{
    struct walk *w = arg;

    printf("%s\n    {\"kind\": \"dead\", \"key\": \"", w->between);
    print_hex(key, 32);
    printf("\", \"segment_id\": \"");
    print_hex(segment_id, 16);
    printf("\", \"offset\": %" PRIu64 ", \"reason\": \"%s\"}", (uint64_t)offset * FORMAT_PAGE,
           reason_name(reason));
    w->between = ",";
    return 0;
}

static int print_aside(void *arg, const uint8_t segment_id[16], uint8_t reason)
{
    struct walk *w = arg;

    printf("%s\n    {\"kind\": \"aside\", \"segment_id\": \"", w->between);
    print_hex(segment_id, 16);
    printf("\", \"reason\": \"%s\"}", reason_name(reason));
    w->between = ",";
    return 0;
}

static void print_segment(const char *dir, const char *file)
{
    static const char *const ends[] = {"more", "end", "torn", "later"};
    struct walk w = {.between = ""};
    struct toc_sink sink = {
        .block = print_block, .dead = print_dead, .aside = print_aside, .arg = &w};
    struct toc_cursor c;
    struct buffer toc;
    char path[1024];
    int end;

    snprintf(path, sizeof path, "%s/%s", dir, file);
    toc = file_read(path);
    memcpy(strrchr(path, '.'), ".seg", 5);
    w.data = file_read(path);
    if (toc.len < FORMAT_PAGE || toc_header_decode(toc.bytes, &w.header) < 0) {
        printf("null");
        goto out;
    }
    printf("{\"name\": \"%.25s\", \"shard\": %u, \"shards\": %u, \"id\": \"", file, w.header.shard,
           w.header.shards);
    print_hex(w.header.segment_id, 16);
    printf("\", \"created_s\": %" PRIu64 ",\n   \"records\": [", w.header.created_s);
    toc_cursor_init(&c, w.header.segment_id);
    end = toc_parse(&c, toc.bytes + FORMAT_PAGE, toc.len - FORMAT_PAGE, true, &sink);
    printf("],\n   \"end\": \"%s\", \"position\": %" PRIu64 ", \"frames\": %" PRIu64
           ", \"data_end\": %" PRIu64 "}",
           end >= 0 && end < 4 ? ends[end] : "?", c.position, c.number, c.data_end);
out:
    free(toc.bytes);
    free(w.data.bytes);
}

static void print_head(const char *dir, const char *file)
{
    struct head_record h;
    struct buffer b;
    char path[1024];
    uint32_t touches[2];

    snprintf(path, sizeof path, "%s/%s", dir, file);
    b = file_read(path);
    if (b.len != FORMAT_PAGE || head_decode(b.bytes, &h) < 0) {
        printf("null");
    } else {
        head_touches(b.bytes, touches, 2);
        printf("{\"writer\": \"%016" PRIx64
               "\", \"shard\": %u, \"state\": \"%s\", \"counter\": %" PRIu64
               ", \"first_seq\": %" PRIu64 ", \"next_seq\": %" PRIu64 ", \"published\": %" PRIu64
               ", \"written_s\": %" PRIu64 ", \"pid\": %u, \"host\": \"%s\", "
               "\"touches\": [%u, %u]}",
               h.writer, h.shard, h.state == HEAD_LIVE ? "live" : "closed", h.counter, h.first_seq,
               h.next_seq, h.published, h.written_s, h.pid, h.host, touches[0], touches[1]);
    }
    free(b.bytes);
}

/* Every file of one kind in every shard. */
static void print_all(const char *space, enum segment_file kind,
                      void (*print)(const char *dir, const char *file))
{
    const char *between = "";
    unsigned shard;

    for (shard = 0; shard < 2; shard++) {
        struct dirent **names;
        char dir[768];
        int i, n;

        snprintf(dir, sizeof dir, "%s/s%uof2", space, shard);
        n = scandir(dir, &names, NULL, alphasort);
        for (i = 0; i < n; i++) {
            uint64_t writer, seq;

            if (segment_name_parse(names[i]->d_name, &writer, &seq) == kind) {
                printf("%s\n  ", between);
                print(dir, names[i]->d_name);
                between = ",";
            }
            free(names[i]);
        }
        if (n >= 0)
            free(names);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: dump DIRECTORY-OF-A-SPACE\n");
        return 2;
    }
    printf("{\"segments\": [");
    print_all(argv[1], SEGMENT_FILE_TOC, print_segment);
    printf("],\n \"heads\": [");
    print_all(argv[1], SEGMENT_FILE_HEAD, print_head);
    printf("]}\n");
    return 0;
}
