/*
 * fuzz_names.c - names of segment files, as they come from a directory.
 *
 * Input: a name. Promises: a name that is taken is the one that this writer and number would be
 * written with; any other leaves the results alone. And the other way: names that are made are
 * taken.
 */
#include "fuzz.h"
#include "segment/toc.h"

static void made_check(uint64_t writer, uint64_t seq)
{
    char name[SEGMENT_NAME_MAX];
    uint64_t w, s;

    segment_name(name, writer, seq, ".seg");
    FUZZ_CHECK(segment_name_parse(name, &w, &s) == SEGMENT_FILE_DATA && w == writer && s == seq);
    segment_name(name, writer, seq, ".toc");
    FUZZ_CHECK(segment_name_parse(name, &w, &s) == SEGMENT_FILE_TOC && w == writer && s == seq);
    head_name(name, writer);
    FUZZ_CHECK(segment_name_parse(name, &w, &s) == SEGMENT_FILE_HEAD && w == writer && s == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size}, numbers = in;
    char *name = fuzz_string(in), again[SEGMENT_NAME_MAX] = "";
    uint64_t writer = 77, seq = 78, w = fuzz_u64(&numbers);
    enum segment_file kind = segment_name_parse(name, &writer, &seq);

    switch (kind) {
    case SEGMENT_FILE_DATA:
        segment_name(again, writer, seq, ".seg");
        break;
    case SEGMENT_FILE_TOC:
        segment_name(again, writer, seq, ".toc");
        break;
    case SEGMENT_FILE_HEAD:
        FUZZ_CHECK(seq == 0);
        head_name(again, writer);
        break;
    case SEGMENT_FILE_OTHER:
        FUZZ_CHECK(writer == 77 && seq == 78);
        break;
    }
    if (kind != SEGMENT_FILE_OTHER)
        FUZZ_CHECK(strcmp(name, again) == 0);
    made_check(w, fuzz_u32(&numbers));
    free(name);
    return 0;
}
