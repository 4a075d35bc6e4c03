/*
 * unload_cistern.c - loads libcistern.so, opens a store, puts and gets a block, closes, unloads.
 *
 *   unload_cistern LIBRARY DIR ROUNDS
 */
#include <stdint.h>
#include <string.h>

#include "cistern.h"
#include "unload.h"

enum { BYTES = 16384 };

static struct {
    __typeof__(cistern_open) *open;
    __typeof__(cistern_close) *close;
    __typeof__(cistern_key_root) *key_root;
    __typeof__(cistern_put_sync) *put_sync;
    __typeof__(cistern_get_sync) *get_sync;
    __typeof__(cistern_error_text) *error_text;
} call;

static const char *resolve(void *library)
{
    static const char *const names[] = {"cistern_open",     "cistern_close",
                                        "cistern_key_root", "cistern_put_sync",
                                        "cistern_get_sync", "cistern_error_text"};
    void **slots = (void **)&call;
    size_t i;

    for (i = 0; i < sizeof names / sizeof *names; i++) {
        slots[i] = dlsym(library, names[i]);
        if (!slots[i])
            return names[i];
    }
    return NULL;
}

static int open_store(const char *dir, cistern **out)
{
    struct cistern_part part = {.name = "kv", .bytes = BYTES};
    struct cistern_space space = {.size = sizeof space,
                                  .model = "unload",
                                  .dtype = "u8",
                                  .block_tokens = 16,
                                  .nparts = 1,
                                  .parts = &part};
    struct cistern_options o = {.size = sizeof o,
                                .reuse_cache = 1,
                                .enable_3fs = 1,
                                .mount = dir,
                                .provider = "local",
                                .space = &space,
                                .read_iov_bytes = 8 << 20,
                                .write_iov_bytes = 8 << 20,
                                .max_blocks = 1 << 16,
                                .segment_bytes = 64 << 20,
                                .lanes = 2};

    return call.open(&o, out);
}

static void *use_it(void *arg)
{
    static uint8_t bytes[BYTES];
    static char text[600];
    struct use *use = arg;
    struct cistern_vec vec = {bytes, BYTES};
    struct cistern_span span = {&vec, 1};
    struct cistern_event event;
    uint8_t result;
    struct cistern_request request = {
        .size = sizeof request, .spans = &span, .results = &result, .blocks = 1};
    cistern *store;
    cistern_key key;
    int rc;

    use->why = resolve(use->library);
    if (use->why)
        return NULL;
    rc = open_store(use->dir, &store);
    if (rc) {
        (void)snprintf(text, sizeof text, "open %d: %s", rc, call.error_text());
        use->why = text;
        return NULL;
    }
    request.keys = &key;
    memset(bytes, 0x5c, BYTES);
    if (call.key_root(store, NULL, &key) || call.put_sync(store, &request, &event) ||
        event.hits != 1)
        use->why = "the put was not stored";
    memset(bytes, 0, BYTES);
    if (!use->why &&
        (call.get_sync(store, &request, &event) || event.hits != 1 || bytes[7] != 0x5c))
        use->why = "the get was no hit";
    if (call.close(store) && !use->why)
        use->why = "close reported a loss";
    return NULL;
}

int main(int argc, char **argv)
{
    return rounds(argc, argv);
}
