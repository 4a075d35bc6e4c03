/*
 * gcm_wide.h - AES-256-GCM (NIST SP 800-38D) sixteen blocks at a time, for CPUs with VAES,
 * carry-less multiplication of vectors and AVX-512: OpenSSL has that from 3.1 on, and not with
 * stores past the cache. Nonces of 96 bits. No branch and no address depends on a key or on data.
 *
 * Nothing fails. A state belongs to one thread; it holds expanded keys, which its owner wipes.
 */
#ifndef SEGMENT_GCM_WIDE_H
#define SEGMENT_GCM_WIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GCM_BLOCK       16u
#define GCM_WIDE_BLOCKS 16u
#define GCM_ROUNDS      14u

struct gcm_wide {
    /* Of the key. */
    _Alignas(64) uint8_t power[GCM_WIDE_BLOCKS][GCM_BLOCK]; /* of the hash's key, highest first */
    uint8_t round[GCM_ROUNDS + 1][GCM_BLOCK];
    /* Of the message under way. */
    uint8_t nonce[12];
    uint32_t counter;         /* of the block whose key stream comes next */
    uint8_t mask[GCM_BLOCK];  /* of the tag */
    uint8_t hash[GCM_BLOCK];  /* of the whole blocks so far */
    uint8_t pad[GCM_BLOCK];   /* key stream of a block that is not whole yet ... */
    uint8_t piece[GCM_BLOCK]; /* ... and its ciphertext so far */
    uint64_t aad, bytes;
};

/* Whether this CPU can; nothing else may be called where it cannot. */
bool gcm_wide_usable(void);
void gcm_wide_key(struct gcm_wide *g, const uint8_t key[32]);
/* Begins a message; `aad` is authenticated beside it. */
void gcm_wide_begin(struct gcm_wide *g, const uint8_t nonce[12], const void *aad, size_t len);
/* Its next bytes; to == from is fine. `past`: stores go past the cache, for who does not read them
 * next; visible to other threads after gcm_wide_tag(). */
void gcm_wide_add(struct gcm_wide *g, bool encrypt, bool past, void *to, const void *from,
                  size_t len);
/* Ends it. */
void gcm_wide_tag(struct gcm_wide *g, uint8_t tag[GCM_BLOCK]);

#endif
