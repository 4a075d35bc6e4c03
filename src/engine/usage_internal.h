/*
 * usage_internal.h - what usage.c and usage_list.c share: the order of the lists, and their growth.
 */
#ifndef ENGINE_USAGE_INTERNAL_H
#define ENGINE_USAGE_INTERNAL_H

#include "engine/usage.h"

/* Room for one more; keeps what it has when there is none. */
int usage_grow(void **at, size_t *room, size_t count, size_t size) MUST_CHECK;
int usage_seg_order(const void *x, const void *y);
int usage_head_order(const void *x, const void *y);
/* Something cannot be looked at; told once, until a scan sees everything again. */
void usage_note_blind(struct usage *u, cistern *c, const char *path, int rc);
/* Names of segments and heads, in no order; data and contents of a segment are two entries. */
int usage_list(struct usage *u, cistern *c) MUST_CHECK;

#endif
