/*
 * text.h - the numbers of several handles as Prometheus reads them, text format 0.0.4.
 *
 * A metric appears once, with one line for each handle that has it. Numbers are written without the
 * locale. Pure.
 */
#ifndef METRICS_TEXT_H
#define METRICS_TEXT_H

#include "metrics/page.h"

struct text_handle {
    const struct page *page;
    uint64_t age_ns; /* of its numbers */
};

/* Like snprintf: what fits, ended by a NUL; returns the whole length. */
size_t text_render(char *buf, size_t size, const struct text_handle *handles, uint32_t n);

#endif
