/* window.c - see window.h. */
#include "metrics/window.h"

#include <string.h>

#define STEP_NS 900000000ull /* looks that are meant to be a second apart come a little early */
#define LONG_NS 10000000000ull

uint64_t share_ppm(uint64_t part, uint64_t of)
{
    double share = of ? (double)part / (double)of : 0;

    return share >= 1 ? 1000000 : (uint64_t)(share * 1e6 + 0.5);
}

uint64_t window_look(struct window *w, uint64_t now_ns, uint64_t of, uint64_t part)
{
    uint32_t i = 0;

    while (i + 1 < w->count && now_ns - w->at[i].ns < LONG_NS)
        i++;
    if (!w->count || now_ns - w->at[0].ns >= STEP_NS) {
        uint64_t share = w->count ? share_ppm(part - w->at[i].part, of - w->at[i].of) : 0;

        memmove(&w->at[1], &w->at[0], (WINDOW_SLOTS - 1) * sizeof w->at[0]);
        w->at[0].ns = now_ns;
        w->at[0].of = of;
        w->at[0].part = part;
        w->count += w->count < WINDOW_SLOTS;
        return share;
    }
    return share_ppm(part - w->at[i].part, of - w->at[i].of);
}
