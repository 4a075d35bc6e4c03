/*
 * gauges.h - numbers of a handle that are made when somebody looks: what is read off its parts.
 *
 * Threads: any; the window of the hit rate has a lock of its own.
 */
#ifndef ENGINE_GAUGES_H
#define ENGINE_GAUGES_H

#include "engine/engine.h"

void gauges_open(cistern *c);
/* Reads them off the handle as it is now. Nothing here waits for storage. */
void gauges_refresh(cistern *c);
/* The keeper's: asks the file system for its size, every five seconds at most; may hang. */
void gauges_room(cistern *c, uint64_t now);

#endif
