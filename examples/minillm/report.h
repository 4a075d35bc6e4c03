/* report.h - what minillm tells: text for people, a JSON line per event for programs. stdout. */
#ifndef MINILLM_REPORT_H
#define MINILLM_REPORT_H

#include "request.h"

/* `tier2` is what tier2_describe() gave, `why` the reason when it is off though asked for. */
void report_ready(const struct config *c, const char *arithmetic, const char *tier2,
                  const char *why);
void report_request(const struct config *c, const struct report *r, const char *name);
void report_failure(const struct config *c, int id, const char *name, const char *why);
void report_drained(const struct config *c, uint64_t left, double seconds);
void report_flushed(const struct config *c, const struct tier2_counts *all_ranks, bool complete);

#endif
