/*
 * sealed.h - encryption in the engine: keys of a handle, and parts on their way between an engine's
 * memory and staging. A handle without encryption has no crypt, and nothing here is called.
 *
 * Threads: a cipher belongs to one thread (a lane, the write lane, the keeper, the follower). The
 * key of a segment is in the handle's crypt under its number; whoever holds the segment may use it.
 */
#ifndef ENGINE_SEALED_H
#define ENGINE_SEALED_H

#include "engine/engine.h"
#include "mem/mem.h"
#include "segment/crypt.h"
#include "segment/toc.h"

/* Reads the key file, if there is one. */
int sealed_open(cistern *c) MUST_CHECK;
void sealed_close(cistern *c);

/* Begins the parse of contents whose header page was decoded; `key` is room for the segment's. As
 * for any reader: CISTERN_EKEY; -EBADMSG also for plain contents where they are not believed. The
 * keeper only. */
int sealed_cursor(const cistern *c, const void *page, const struct toc_header *h,
                  struct toc_cursor *cursor, uint8_t key[CRYPT_KEY]) MUST_CHECK;

/* A put: encrypts a part of the caller's into staging. */
int sealed_gather(const struct mem_ops *m, struct cipher *cipher, const uint8_t *key,
                  const struct check_identity *id, void *staging, const struct cistern_span *s,
                  uint64_t *check) MUST_CHECK;
/* A get: decrypts a part from staging to the caller. -EBADMSG: it is not what was stored, and the
 * destination may hold anything. */
int sealed_scatter(const struct mem_ops *m, struct cipher *cipher, const uint8_t *key,
                   const struct check_identity *id, uint8_t *staging, const struct cistern_span *s,
                   uint64_t check) MUST_CHECK;

#endif
