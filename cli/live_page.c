/*
 * live_page.c - the page at "/" of `cistern metrics --listen`, put into the command as it is built.
 */
#include "metrics.h"

#if defined(__has_include)
#if __has_include("../deploy/live/index.html")
#define LIVE_PAGE "deploy/live/index.html" /* make runs at the top of the tree */
#endif
#endif

#ifdef LIVE_PAGE
__asm__(".pushsection .rodata\n"
        ".global live_page_from, live_page_to\n"
        ".hidden live_page_from, live_page_to\n"
        "live_page_from:\n"
        ".incbin \"" LIVE_PAGE "\"\n"
        "live_page_to:\n"
        ".byte 0\n"
        ".popsection\n");
extern const char live_page_from[], live_page_to[];

const char *live_page(size_t *len)
{
    *len = (size_t)(live_page_to - live_page_from);
    return live_page_from;
}
#else
const char *live_page(size_t *len)
{
    *len = 0;
    return NULL;
}
#endif
