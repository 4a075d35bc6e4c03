/*
 * xxh3_build.h - the body of one build of XXH3, included by one .c file per instruction set with
 * XXH3_NAME(x) defined.
 */
#define XXH_INLINE_ALL
#define XXH_NO_STDLIB
#include <xxhash.h>

#include "base/hash.h"

/* The compiler leaves the upper halves of the AVX registers dirty behind XXH3's long path; the SSE
 * code of the caller then runs several times slower (parsing of contents: 3x). */
#ifdef __AVX2__
#include <immintrin.h>
#define XXH3_LEAVE() _mm256_zeroupper()
#else
#define XXH3_LEAVE() ((void)0)
#endif

_Static_assert(sizeof(XXH3_state_t) <= sizeof(struct hash64_state), "room for the state");
_Static_assert(_Alignof(XXH3_state_t) <= 64, "alignment of the state");

uint64_t XXH3_NAME(hash64)(const void *data, size_t len);
void XXH3_NAME(begin)(struct hash64_state *s);
void XXH3_NAME(add)(struct hash64_state *s, const void *data, size_t len);
uint64_t XXH3_NAME(end)(struct hash64_state *s);

uint64_t XXH3_NAME(hash64)(const void *data, size_t len)
{
    uint64_t h = XXH3_64bits(data, len);

    XXH3_LEAVE();
    return h;
}

void XXH3_NAME(begin)(struct hash64_state *s)
{
    (void)XXH3_64bits_reset((XXH3_state_t *)(void *)s->opaque);
}

void XXH3_NAME(add)(struct hash64_state *s, const void *data, size_t len)
{
    (void)XXH3_64bits_update((XXH3_state_t *)(void *)s->opaque, data, len);
    XXH3_LEAVE();
}

uint64_t XXH3_NAME(end)(struct hash64_state *s)
{
    uint64_t h = XXH3_64bits_digest((XXH3_state_t *)(void *)s->opaque);

    XXH3_LEAVE();
    return h;
}
