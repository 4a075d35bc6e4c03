/*
 * window.h - a share over the last seconds: what two counters grew by since ten seconds ago, or
 * since the look before that, where nobody looked for longer. Pure; guarded by the caller.
 */
#ifndef METRICS_WINDOW_H
#define METRICS_WINDOW_H

#include <stdint.h>

#define WINDOW_SLOTS 11u

struct window {
    struct {
        uint64_t ns, of, part;
    } at[WINDOW_SLOTS]; /* the newest first */
    uint32_t count;
};

/* Millionths that `part` is of `of`, 0 when that is 0; at most all of it. */
uint64_t share_ppm(uint64_t part, uint64_t of);
/* The share of the window that ends now. Keeps one look a second. */
uint64_t window_look(struct window *w, uint64_t now_ns, uint64_t of, uint64_t part);

#endif
