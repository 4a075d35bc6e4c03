/*
 * client.c - the least that an engine does, against the installed tree: valid C11 and valid C++17.
 *
 * Stores one block, opens the directory again and reads it back, and says which provider it used.
 */
#include <cistern.h>

#include <stdio.h>
#include <string.h>

#define BYTES 65536

static unsigned char source[BYTES], destination[BYTES];

static int fail(const char *what, int code)
{
    fprintf(stderr, "%s: %s: %s\n", what, cistern_error_name(code), cistern_error_text());
    return 1;
}

static int open_store(const char *mount, struct cistern **out)
{
    struct cistern_part part;
    struct cistern_space space;
    struct cistern_options options;

    memset(&part, 0, sizeof part);
    part.name = "kv";
    part.bytes = BYTES;
    memset(&space, 0, sizeof space);
    space.size = sizeof space;
    space.model = "client";
    space.dtype = "bf16";
    space.block_tokens = 16;
    space.nparts = 1;
    space.parts = &part;
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.reuse_cache = 1;
    options.enable_3fs = 1;
    options.mount = mount;
    options.provider = "local";
    options.space = &space;
    options.read_iov_bytes = 4u << 20;
    options.write_iov_bytes = 4u << 20;
    options.lanes = 1;
    return cistern_open(&options, out);
}

int main(int argc, char **argv)
{
    struct cistern_vec vec = {source, BYTES};
    struct cistern_span span = {&vec, 1};
    unsigned char result;
    struct cistern_request request;
    struct cistern_event event;
    struct cistern_match match;
    struct cistern *store = NULL;
    uint32_t tokens[16] = {1, 2, 3};
    cistern_key root, key;
    char text[4096];
    int rc, i;

    if (argc < 2)
        return 2;
    for (i = 0; i < BYTES; i++)
        source[i] = (unsigned char)(i * 31);
    rc = open_store(argv[1], &store);
    if (rc)
        return fail("open", rc);
    rc = cistern_key_root(store, NULL, &root);
    if (rc || cistern_key_chain(&root, tokens, 16, 16, &key) != 1)
        return fail("key", rc);
    memset(&request, 0, sizeof request);
    request.size = sizeof request;
    request.keys = &key;
    request.spans = &span;
    request.results = &result;
    request.blocks = 1;
    rc = cistern_put_sync(store, &request, &event);
    if (rc || event.hits != 1)
        return fail("put", rc);
    rc = cistern_close(store);
    if (rc)
        return fail("close", rc);

    rc = open_store(argv[1], &store);
    if (rc)
        return fail("open again", rc);
    rc = cistern_match(store, &key, 1, &match);
    if (rc || match.blocks != 1)
        return fail("match", rc);
    vec.base = destination;
    request.ticket = match.ticket;
    rc = cistern_get_sync(store, &request, &event);
    if (rc || event.hits != 1 || memcmp(source, destination, BYTES) != 0)
        return fail("get", rc);
    if (cistern_describe(store, text, sizeof text) <= 0)
        return fail("describe", 0);
    printf("stored and read back\n%s\n", text);
    return cistern_close(store) ? 1 : 0;
}
