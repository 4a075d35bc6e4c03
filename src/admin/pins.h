/*
 * pins.h - the pins of a root, as the operator's functions see them.
 */
#ifndef ADMIN_PINS_H
#define ADMIN_PINS_H

#include "admin/survey.h"
#include "segment/pin.h"

struct pins_item {
    const struct survey_space *space;
    const struct survey_other *file;
    char path[ADMIN_PATH];
    int rc; /* of the reading; then the text says more, and `pin` is empty */
    char text[160];
    struct pin_record pin; /* its keys live for the visit only */
    bool holds;            /* valid, of this space and not expired */
};
/* Every pin of the surveyed spaces; a visit's non-zero answer ends it. -ENOENT of a file is passed
 * over. */
int pins_visit(struct admin *ad, const struct survey *v,
               int (*visit)(void *arg, const struct pins_item *p), void *arg) MUST_CHECK;

/* Keys that pins of one space keep, sorted. */
struct pins_keys {
    uint8_t (*at)[32];
    size_t count;
};
int pins_keys_take(struct admin *ad, const struct survey *v, const struct survey_space *sp,
                   struct pins_keys *out) MUST_CHECK;
bool pins_keys_have(const struct pins_keys *k, const uint8_t key[32]);
void pins_keys_free(struct pins_keys *k);

#endif
