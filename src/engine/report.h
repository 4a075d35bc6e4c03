/*
 * report.h - the statistics page of a handle: a file in /dev/shm that tells its numbers to other
 * processes (metrics/page.h).
 *
 * A thread of its own writes it twice a second. It touches no storage: the numbers that are wanted
 * most are those of a handle whose storage hangs, when the keeper and the follower may hang too.
 * Nothing is mapped, so nothing that others do to the file can end the process. Whatever goes wrong
 * is a line in the log, and the page is not there.
 */
#ifndef ENGINE_REPORT_H
#define ENGINE_REPORT_H

#include "engine/engine.h"

/* The space is needed during the call only. */
void report_start(cistern *c, const struct cistern_space *s);
/* Takes the file away; accepts a handle without. */
void report_stop(cistern *c);

#endif
