/*
 * nonces.h - remembers every (key, nonce) that something was encrypted with in this process, and
 * counts those that came twice. Set cipher_watch = nonces_note.
 */
#ifndef TESTS_HARNESS_NONCES_H
#define TESTS_HARNESS_NONCES_H

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "segment/crypt.h"

#define NONCES_ROOM (1u << 20)

static struct {
    pthread_mutex_t lock;
    uint8_t (*at)[CRYPT_KEY + CRYPT_NONCE]; /* open addressing; zero = free */
    uint64_t count, twice, lost;
} nonces = {.lock = PTHREAD_MUTEX_INITIALIZER};

static inline void nonces_note(const uint8_t key[CRYPT_KEY], const uint8_t nonce[CRYPT_NONCE])
{
    static const uint8_t none[CRYPT_KEY + CRYPT_NONCE];
    uint8_t one[CRYPT_KEY + CRYPT_NONCE];
    uint64_t i = 14695981039346656037u;
    size_t b;

    memcpy(one, key, CRYPT_KEY);
    memcpy(one + CRYPT_KEY, nonce, CRYPT_NONCE);
    for (b = 0; b < sizeof one; b++)
        i = (i ^ one[b]) * 1099511628211u;
    (void)pthread_mutex_lock(&nonces.lock);
    if (!nonces.at)
        nonces.at = calloc(NONCES_ROOM, sizeof *nonces.at);
    if (!nonces.at || nonces.count > NONCES_ROOM / 2) {
        nonces.lost++;
    } else {
        for (i %= NONCES_ROOM; memcmp(nonces.at[i], none, sizeof none) != 0;
             i = (i + 1) % NONCES_ROOM) {
            if (memcmp(nonces.at[i], one, sizeof one) == 0)
                break;
        }
        nonces.twice += memcmp(nonces.at[i], one, sizeof one) == 0;
        memcpy(nonces.at[i], one, sizeof one);
        nonces.count++;
    }
    (void)pthread_mutex_unlock(&nonces.lock);
}

#endif
