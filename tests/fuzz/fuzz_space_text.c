/*
 * fuzz_space_text.c - a space.json that lies in a directory: space_inspect() and space_compare().
 *
 * Input: the text. Promises: canonical JSON is a fixed point; the fingerprint is the SHA-256 of the
 * canonical text; a text compares as equal to a description exactly when its fingerprint is that of
 * the description; what is said about a difference is readable text.
 */
#include <errno.h>
#include <jansson.h>
#include <openssl/sha.h>

#include "cistern.h"
#include "fuzz.h"
#include "key/key.h"

static const struct cistern_part parts[] = {
    {.name = "kv", .bytes = 4096},
    {.name = "swa", .bytes = 100, .policy = CISTERN_PART_TRAILING, .window = 4}};
static const struct cistern_space space = {.size = sizeof space,
                                           .name = "fuzz",
                                           .model = "m",
                                           .dtype = "bf16",
                                           .epoch = 3,
                                           .block_tokens = 64,
                                           .nparts = 2,
                                           .parts = parts};

/* The canonical text of an object; NULL: not an object. For free(). */
static char *canonical_of(const char *text, size_t len)
{
    json_error_t error;
    json_t *j = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    char *out = NULL, *line;

    if (json_is_object(j))
        out = json_dumps(j, JSON_SORT_KEYS | JSON_COMPACT);
    json_decref(j);
    if (!out)
        return NULL;
    line = malloc(strlen(out) + 2);
    snprintf(line, strlen(out) + 2, "%s\n", out);
    free(out);
    return line;
}

static void inspected_check(const char *text, size_t len, uint32_t shards, const uint8_t fp[32])
{
    char *canonical = canonical_of(text, len), *again;
    uint8_t sum[32], fp2[32];
    uint32_t shards2;

    FUZZ_CHECK(canonical != NULL && shards >= 1 && shards <= CISTERN_MAX_SHARDS);
    SHA256((const uint8_t *)canonical, strlen(canonical), sum);
    FUZZ_CHECK(memcmp(sum, fp, 32) == 0);
    again = canonical_of(canonical, strlen(canonical));
    FUZZ_CHECK(again != NULL && strcmp(again, canonical) == 0);
    FUZZ_CHECK(space_inspect(canonical, strlen(canonical), &shards2, fp2) == 0);
    FUZZ_CHECK(shards2 == shards && memcmp(fp2, fp, 32) == 0);
    free(again);
    free(canonical);
}

/* A sentence for a log: no control characters, and none cut off. */
static void sentence_check(const char *s)
{
    json_t *j = json_string(s);

    FUZZ_CHECK(*s && strcspn(s, "\n\r\033") == strlen(s));
    FUZZ_CHECK(j != NULL); /* UTF-8 */
    json_decref(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_copy(data, size);
    uint8_t fp[32] = {0}, own[32];
    uint32_t shards = 4711;
    int inspected = space_inspect(text, size, &shards, fp), compared;

    FUZZ_CHECK(inspected == 0 || inspected == -EBADMSG || inspected == -ENOSPC);
    if (inspected == 0)
        inspected_check(text, size, shards, fp);
    else
        FUZZ_CHECK(shards == 4711);
    compared = space_compare(text, size, &space);
    FUZZ_CHECK(compared == 0 || compared == -EBADMSG || compared == CISTERN_ESPACE);
    if (compared)
        sentence_check(err_text());
    if (inspected == 0) {
        FUZZ_CHECK(compared != -EBADMSG && space_fingerprint(&space, own) == 0);
        FUZZ_CHECK((compared == 0) == (memcmp(own, fp, 32) == 0));
    }
    free(text);
    return 0;
}
