/*
 * key.h - names of blocks and spaces. Pure functions.
 */
#ifndef KEY_KEY_H
#define KEY_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cistern.h"

/*
 * The chain's root from the directory's salt and who asks (NULL: nobody in particular, the same as
 * an identity with nothing set). key.c says what is hashed. -EINVAL.
 */
int key_root(const uint8_t salt[32], const struct cistern_identity *id,
             cistern_key *out) MUST_CHECK;

/*
 * The last bytes of every key of a tenant: which one it is, to whoever has the root's salt and the
 * tenant's. -EINVAL: no tenant.
 */
#define KEY_MARK 8u
int key_tenant_mark(const uint8_t salt[32], const void *tenant, size_t len,
                    uint8_t out[KEY_MARK]) MUST_CHECK;
bool key_has_mark(const uint8_t key[32], const uint8_t mark[KEY_MARK]);

#define SPACE_JSON_MAX 16384
#define SPACE_DIR_MAX  128

/* 0, or -EINVAL / CISTERN_ECONFIG with a text that names the field. NULL is fine (an error). */
int space_check(const struct cistern_space *s) MUST_CHECK;
/* Canonical JSON (sorted names, no blanks, one newline at the end) into buf; its length or an
 * error. */
int space_json(const struct cistern_space *s, char *buf, size_t size) MUST_CHECK;
/* SHA-256 of the canonical JSON. */
int space_fingerprint(const struct cistern_space *s, uint8_t out[32]) MUST_CHECK;
/* "<name>-<32 hex digits>" */
void space_dir_name(const struct cistern_space *s, const uint8_t fingerprint[32],
                    char out[SPACE_DIR_MAX]);
/*
 * Compares a space.json with a description. 0: same. CISTERN_ESPACE: the text names the first field
 * that differs and both values. -EBADMSG: not a space.json (text says where).
 */
int space_compare(const char *json, size_t len, const struct cistern_space *s) MUST_CHECK;
/* How many shards and what fingerprint a space.json describes, for tools that have no description.
 */
int space_inspect(const char *json, size_t len, uint32_t *shards,
                  uint8_t fingerprint[32]) MUST_CHECK;

#endif
