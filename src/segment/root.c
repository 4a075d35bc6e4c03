/*
 * root.c - makes, reads and mends cistern.json, salt and space.json.
 *
 * Order: the salt is there before cistern.json, so that a root with a cistern.json has keys that
 * stay. A storage error is returned and never a reason to write anything.
 */
#include "segment/root.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "key/key.h"
#include "segment/format.h"

#define ROOT_JSON_MAX    4096
#define ENCRYPTION       "aes-256-gcm"
#define PATH_BYTES       768
#define SILENCE_LEAST_MS 100u
#define SILENCE_MOST_MS  3600000u
#define TRIES            4

/* Joins what is not empty with slashes. */
static int path_join(char out[PATH_BYTES], const char *a, const char *b, const char *c)
{
    int n = snprintf(out, PATH_BYTES, "%s%s%s%s%s", a, *a && (*b || *c) ? "/" : "", b,
                     *b && *c ? "/" : "", c);

    return n > 0 && n < PATH_BYTES ? 0 : err_set(-ENAMETOOLONG, "path too long: %s/%s", a, b);
}

/* Every directory of a relative path. */
static int path_make(struct io *io, const char *path)
{
    char part[PATH_BYTES];
    const char *end = path;
    int rc = 0;

    while (rc == 0 && *end) {
        size_t n;

        end += strspn(end, "/");
        end += strcspn(end, "/");
        n = (size_t)(end - path);
        if (n >= sizeof part)
            return err_set(-ENAMETOOLONG, "path too long: %s", path);
        memcpy(part, path, n);
        part[n] = '\0';
        rc = io->ops->make_dir(io, part);
    }
    return rc < 0 ? err_set(rc, "cannot make the directory %s/%s", io->mount, path) : 0;
}

/* ---- salt ---- */

static int salt_prepare(struct io *io, const char *root, bool may_write, uint8_t salt[32])
{
    char path[PATH_BYTES];
    uint8_t fresh[32];
    int64_t n = 0;
    int tries, rc = path_join(path, root, "", ROOT_SALT);

    for (tries = 0; rc == 0 && tries < TRIES; tries++) {
        uint8_t buf[33];

        n = io->ops->small_read(io, path, buf, sizeof buf);
        if (n == 32) {
            memcpy(salt, buf, 32);
            return 0;
        }
        if (n >= 0 || n == -EFBIG)
            return err_set(-EBADMSG,
                           "%s/%s is not 32 bytes long: put the right one back, or remove it and "
                           "lose what is stored",
                           io->mount, path);
        if (n != -ENOENT || !may_write)
            return err_set((int)n, "cannot read %s/%s", io->mount, path);
        if (getrandom(fresh, sizeof fresh, 0) != (ssize_t)sizeof fresh)
            return err_set(-EIO, "no random bytes");
        rc = io->ops->small_write(io, path, fresh, sizeof fresh, true);
        if (rc == -EEXIST)
            rc = 0;
    }
    return err_set(rc ? rc : -EAGAIN, "cannot make %s/%s", io->mount, path);
}

/* ---- cistern.json ---- */

/* A member that is a number of 0 or more. */
static bool json_u64(const json_t *object, const char *name, uint64_t *out)
{
    const json_t *v = json_object_get(object, name);

    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return false;
    *out = (uint64_t)json_integer_value(v);
    return true;
}

/* The members of an encrypted root; false: encrypted as nobody here knows. */
static bool root_parse_key(const json_t *object, struct root_info *info)
{
    const char *how = json_string_value(json_object_get(object, "encryption")),
               *id = json_string_value(json_object_get(object, "key_id"));
    uint8_t got[CRYPT_ID];
    char again[CRYPT_ID_TEXT];
    unsigned i, byte;

    if (!how || strcmp(how, ENCRYPTION) != 0 || !id || strlen(id) != CRYPT_ID_TEXT - 1)
        return false;
    for (i = 0; i < CRYPT_ID; i++) {
        if (sscanf(id + 2 * (size_t)i, "%2x", &byte) != 1)
            return false;
        got[i] = (uint8_t)byte;
    }
    crypt_id_text(got, again);
    if (strcmp(again, id) != 0)
        return false;
    memcpy(info->key_id, got, sizeof got);
    info->encrypted = true;
    return true;
}

/* 0; -EBADMSG: not a cistern.json; CISTERN_EFORMAT; -ENOMEM. Unknown members are left alone. */
static int root_parse(const char *text, size_t len, struct root_info *info)
{
    json_error_t error;
    json_t *object = json_loadb(text, len, 0, &error);
    uint64_t format, silence;
    int rc = -EBADMSG;

    if (!object)
        return json_error_code(&error) == json_error_out_of_memory ? -ENOMEM : -EBADMSG;
    if (!json_u64(object, "format", &format) || format == 0)
        goto out;
    if (format > ROOT_ENCRYPTED || (format == ROOT_ENCRYPTED && !root_parse_key(object, info))) {
        rc = err_set(CISTERN_EFORMAT,
                     "the store has format version %" PRIu64 ", this library reads up to %d%s",
                     format, ROOT_ENCRYPTED, format == ROOT_ENCRYPTED ? " with " ENCRYPTION : "");
        goto out;
    }
    info->silence_ms = 0;
    if (json_u64(object, "silence_ms", &silence) && silence >= SILENCE_LEAST_MS &&
        silence <= SILENCE_MOST_MS)
        info->silence_ms = (uint32_t)silence;
    if (json_u64(object, "capacity_bytes", &info->capacity_bytes) &&
        json_u64(object, "segment_bytes", &info->segment_bytes) &&
        json_u64(object, "created_s", &info->created_s))
        rc = 0;
out:
    json_decref(object);
    return rc;
}

/* What an encrypted root says beside the rest; "" of a plain one. */
static void key_members(const struct crypt *crypt, char out[80])
{
    uint8_t id[CRYPT_ID];
    char text[CRYPT_ID_TEXT];

    out[0] = '\0';
    if (!crypt)
        return;
    crypt_current(crypt, id);
    crypt_id_text(id, text);
    (void)snprintf(out, 80, ",\"encryption\":\"" ENCRYPTION "\",\"key_id\":\"%s\"", text);
}

static int root_write(struct io *io, const char *path, const struct root_params *params,
                      bool exclusive)
{
    char text[256], more[80], silence[32] = "";
    int n;

    key_members(params->crypt, more);
    if (params->silence_ms)
        (void)snprintf(silence, sizeof silence, ",\"silence_ms\":%" PRIu32, params->silence_ms);
    n = snprintf(text, sizeof text,
                 "{\"format\":%d,\"capacity_bytes\":%" PRIu64 ",\"created_s\":%" PRIu64
                 ",\"segment_bytes\":%" PRIu64 "%s%s}\n",
                 params->crypt ? ROOT_ENCRYPTED : ROOT_PLAIN, params->capacity_bytes,
                 clock_wall_s(), params->segment_bytes, silence, more);
    return io->ops->small_write(io, path, text, (size_t)n, exclusive);
}

/* Writes the object with a newline at its end. */
static int root_dump(struct io *io, const char *path, const json_t *object)
{
    char text[ROOT_JSON_MAX];
    size_t len = json_dumpb(object, text, sizeof text - 1, JSON_COMPACT);

    if (len >= sizeof text)
        return -EFBIG;
    text[len++] = '\n';
    return io->ops->small_write(io, path, text, len, false);
}

/* cistern.json says from now on that the root is encrypted, and with which key; its other members
 * stay. */
static int root_mark(struct io *io, const char *path, const char *text, size_t len,
                     const struct crypt *crypt)
{
    json_t *object = json_loadb(text, len, 0, NULL);
    char hex[CRYPT_ID_TEXT];
    uint8_t id[CRYPT_ID];
    int rc = -ENOMEM;

    crypt_current(crypt, id);
    crypt_id_text(id, hex);
    if (json_object_set_new(object, "format", json_integer(ROOT_ENCRYPTED)) == 0 &&
        json_object_set_new(object, "encryption", json_string(ENCRYPTION)) == 0 &&
        json_object_set_new(object, "key_id", json_string(hex)) == 0)
        rc = root_dump(io, path, object);
    json_decref(object);
    return rc;
}

/* Does what cistern.json says of encryption go together with the keys that were given? */
static int root_unlock(struct io *io, const char *path, const struct root_params *params,
                       const char *text, size_t len, struct root_info *info)
{
    char wanted[CRYPT_ID_TEXT], has[CRYPT_ID_TEXT];
    uint8_t current[CRYPT_ID];
    int rc;

    crypt_id_text(info->key_id, wanted);
    if (!params->crypt)
        return !info->encrypted || params->look
                   ? 0
                   : err_set(CISTERN_EKEY,
                             "%s/%s: the root is encrypted: give encryption_key_file, a file with "
                             "key %s",
                             io->mount, path, wanted);
    crypt_current(params->crypt, current);
    crypt_id_text(current, has);
    if (info->encrypted && !crypt_has(params->crypt, info->key_id) && !params->look)
        return err_set(CISTERN_EKEY,
                       "%s/%s: the root is encrypted with key %s; the key file has key %s instead",
                       io->mount, path, wanted, has);
    if (!params->may_write || (info->encrypted && strcmp(wanted, has) == 0))
        return 0;
    rc = root_mark(io, path, text, len, params->crypt);
    if (rc && !info->encrypted)
        return err_set(rc, "%s/%s cannot be marked as encrypted", io->mount, path);
    memcpy(info->key_id, current, sizeof current);
    info->encrypted = true;
    return 0;
}

/* Reads cistern.json; when it is missing or no such thing, writes it and reads it again. */
static int root_file_prepare(struct io *io, const char *root, const struct root_params *params,
                             struct root_info *info)
{
    char path[PATH_BYTES], text[ROOT_JSON_MAX];
    int tries, rc = path_join(path, root, "", ROOT_FILE);

    for (tries = 0; rc == 0 && tries < TRIES; tries++) {
        int64_t n = io->ops->small_read(io, path, text, sizeof text);

        if (n == -EFBIG)
            n = 0;
        if (n < 0 && (n != -ENOENT || !params->may_write))
            return err_set((int)n, "cannot read %s/%s", io->mount, path);
        if (n >= 0) {
            rc = root_parse(text, (size_t)n, info);
            if (rc == 0)
                return root_unlock(io, path, params, text, (size_t)n, info);
            if (rc != -EBADMSG)
                return rc;
            if (!params->crypt && !params->look && memmem(text, (size_t)n, ENCRYPTION, 11))
                return err_set(CISTERN_EKEY,
                               "%s/%s is damaged, and was that of an encrypted root: give "
                               "encryption_key_file",
                               io->mount, path);
            info->healed = true;
            info->encrypted = params->crypt != NULL;
            info->capacity_bytes = params->capacity_bytes;
            info->segment_bytes = params->segment_bytes;
            info->silence_ms = params->silence_ms;
            info->created_s = 0;
            if (!params->may_write)
                return 0;
        }
        rc = root_write(io, path, params, n < 0);
        if (rc == 0 && n < 0)
            info->created = true;
        if (rc == -EEXIST)
            rc = 0;
    }
    return err_set(rc ? rc : -EAGAIN, "cannot make %s/%s", io->mount, path);
}

int root_prepare(struct io *io, const char *root, const struct root_params *params,
                 struct root_info *out)
{
    struct root_info info = {0};
    int rc = 0;

    if (params->may_write)
        rc = path_make(io, root);
    if (rc == 0)
        rc = salt_prepare(io, root, params->may_write, info.salt);
    if (rc == 0)
        rc = root_file_prepare(io, root, params, &info);
    if (rc == 0)
        *out = info;
    return rc;
}

/* What cistern.json says now. */
static int root_read(struct io *io, const char *root, struct root_info *info)
{
    char path[PATH_BYTES], text[ROOT_JSON_MAX];
    int64_t n;
    int rc = path_join(path, root, "", ROOT_FILE);

    if (rc)
        return rc;
    n = io->ops->small_read(io, path, text, sizeof text);
    return n < 0 ? (int)n : root_parse(text, (size_t)n, info);
}

int root_capacity(struct io *io, const char *root, uint64_t *bytes)
{
    struct root_info info = {0};
    int rc = root_read(io, root, &info);

    if (rc == 0)
        *bytes = info.capacity_bytes;
    return rc;
}

int root_silence(struct io *io, const char *root, uint32_t *silence_ms)
{
    struct root_info info = {0};
    int rc = root_read(io, root, &info);

    if (rc == 0)
        *silence_ms = info.silence_ms;
    return rc;
}

int root_set_capacity(struct io *io, const char *root, uint64_t bytes)
{
    char path[PATH_BYTES], text[ROOT_JSON_MAX];
    json_t *object = NULL;
    int64_t n;
    int rc = path_join(path, root, "", ROOT_FILE);

    if (rc)
        return rc;
    n = io->ops->small_read(io, path, text, sizeof text);
    if (n < 0)
        return (int)n;
    object = json_loadb(text, (size_t)n, 0, NULL);
    if (!json_is_object(object)) {
        rc = -EBADMSG;
    } else if (bytes > INT64_MAX ||
               json_object_set_new(object, "capacity_bytes", json_integer((json_int_t)bytes))) {
        rc = -EINVAL;
    } else {
        rc = root_dump(io, path, object);
    }
    json_decref(object);
    return rc;
}

/* ---- space.json ---- */

/* Does the name end in "-<first 32 digits of the fingerprint>"? */
static bool dir_named_after(const char *dir, const uint8_t fingerprint[32])
{
    char suffix[34] = "-";
    size_t len = strlen(dir);
    unsigned i;

    for (i = 0; i < 16; i++)
        (void)snprintf(suffix + 1 + 2 * i, 3, "%02x", fingerprint[i]);
    return len >= 33 && strcmp(dir + len - 33, suffix) == 0;
}

/* A shard's directory: "s<digits>of<digits>". */
static int shard_seen(void *arg, const char *name)
{
    unsigned shard, shards;
    char more;

    (void)arg;
    return sscanf(name, "s%uof%u%c", &shard, &shards, &more) == 2;
}

/* space.json has `n` bytes that are not the description; in a directory that is not named after it.
 */
static int space_judge(const char *dir, const char *text, int64_t n, const struct cistern_space *s)
{
    char why[256];
    int rc;

    if (n < 0)
        return err_set(CISTERN_ESPACE, "%s has no " SPACE_FILE " and is not named after this space",
                       dir);
    rc = space_compare(text, (size_t)n, s);
    if (rc == 0)
        return 0;
    err_copy_text(why, sizeof why);
    if (rc == -EBADMSG)
        return err_set(CISTERN_ESPACE,
                       "%s is not named after this space, and its " SPACE_FILE
                       " cannot be read: %s",
                       dir, why);
    return err_set(rc, "%s: %s", dir, why);
}

int space_prepare(struct io *io, const char *root, const char *space_dir,
                  const struct cistern_space *s, const uint8_t fingerprint[32], bool may_write,
                  bool *healed)
{
    char dir[PATH_BYTES], path[PATH_BYTES], text[SPACE_JSON_MAX], ours[SPACE_JSON_MAX];
    int rc, len;
    int64_t n;

    rc = path_join(dir, root, space_dir, "");
    if (rc == 0)
        rc = path_join(path, root, space_dir, SPACE_FILE);
    if (rc)
        return rc;
    len = space_json(s, ours, sizeof ours);
    if (len < 0)
        return len;
    n = io->ops->small_read(io, path, text, sizeof text);
    if (n == len && memcmp(text, ours, (size_t)len) == 0) {
        *healed = false;
        return 0;
    }
    if (n == -EFBIG)
        n = 0;
    if (n < 0 && n != -ENOENT)
        return err_set((int)n, "cannot read %s/%s", io->mount, path);
    if (!dir_named_after(space_dir, fingerprint)) {
        rc = space_judge(dir, text, n, s);
        if (rc == 0)
            *healed = false;
        return rc;
    }
    rc = io->ops->list(io, dir, shard_seen, NULL);
    if (rc < 0 && (rc != -ENOENT || !may_write))
        return err_set(rc, "cannot list %s/%s", io->mount, dir);
    if (may_write) {
        int wrote = path_make(io, dir);

        if (wrote == 0)
            wrote = io->ops->small_write(io, path, ours, (size_t)len, false);
        if (wrote)
            return err_set(wrote, "cannot write %s/%s", io->mount, path);
        (void)io->ops->sync_dir(io, root); /* lost at a power cut: an empty store, nothing worse */
    }
    *healed = n >= 0 || rc > 0;
    return 0;
}
