/*
 * fuzz_root.c - the small files that make a directory a store: salt, cistern.json, space.json, and
 * the names in a space's directory.
 *
 * Input: what is there, what fails, how it is opened. Promises: answers are among those of root.h;
 * without leave nothing is written; a salt is 32 bytes and is the one that lies there; what was
 * mended is taken as it is the next time; a directory that is not named after a space is taken only
 * if its space.json says the same.
 */
#include <errno.h>
#include <jansson.h>

#include "cistern.h"
#include "fake_dir.h"
#include "key/key.h"
#include "segment/root.h"
#include "segment/ttl_file.h"

static const struct cistern_part parts[] = {{.name = "kv", .bytes = 4096}};
static const struct cistern_space space = {.size = sizeof space,
                                           .name = "fuzz",
                                           .model = "m",
                                           .dtype = "bf16",
                                           .block_tokens = 64,
                                           .nparts = 1,
                                           .parts = parts};
static uint8_t fingerprint[32];
static char space_dir[SPACE_DIR_MAX];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    if (space_fingerprint(&space, fingerprint))
        abort();
    space_dir_name(&space, fingerprint, space_dir);
    return 0;
}

static void file_put(struct fake_dir *d, const char *name, struct fuzz_in bytes)
{
    (void)fake_dir_add(d, name, fuzz_copy(bytes.at, bytes.left), bytes.left);
}

static void faults_take(struct fuzz_in *in, struct fake_dir *d)
{
    uint8_t which = fuzz_u8(in);

    d->faults.open_fails = which & 1 ? 0 : -1;
    d->faults.read_fails = which & 2 ? which >> 6 : -1;
    d->faults.wait_fails = which & 4 ? which >> 6 : -1;
}

/* Opened once more, with nothing failing, it must be as the first call said. */
static void root_again(struct fake_dir *d, const struct root_params *params,
                       const struct root_info *first)
{
    struct root_info second = {0};
    int writes = d->writes;

    fake_dir_no_faults(d);
    FUZZ_CHECK(root_prepare(&d->io, "r", params, &second) == 0);
    FUZZ_CHECK(memcmp(first->salt, second.salt, 32) == 0);
    FUZZ_CHECK(first->capacity_bytes == second.capacity_bytes);
    FUZZ_CHECK(first->segment_bytes == second.segment_bytes && !second.created);
    FUZZ_CHECK(second.healed == (first->healed && !params->may_write));
    FUZZ_CHECK(d->writes - writes == (params->may_write ? 1 : 0)); /* the directory is asked for */
}

/* What was taken from cistern.json stands there, as numbers of 0 and more. */
static void numbers_check(const struct fake_file *f, const struct root_info *info)
{
    json_error_t error;
    json_t *j = json_loadb((const char *)f->bytes, f->len, 0, &error);
    json_int_t format, capacity, segment, created;

    FUZZ_CHECK(json_unpack(j, "{s:I, s:I, s:I, s:I}", "format", &format, "capacity_bytes",
                           &capacity, "segment_bytes", &segment, "created_s", &created) == 0);
    FUZZ_CHECK(format == 1 && capacity >= 0 && segment >= 0 && created >= 0);
    FUZZ_CHECK(info->capacity_bytes == (uint64_t)capacity && info->created_s == (uint64_t)created);
    FUZZ_CHECK(info->segment_bytes == (uint64_t)segment);
    json_decref(j);
}

static void root_check(struct fuzz_in *in, struct fake_dir *d)
{
    uint8_t how = fuzz_u8(in);
    struct root_params params = {.may_write = how & 1, .segment_bytes = 1 << 20};
    struct root_info info, untouched;
    const struct fake_file *salt;
    bool faults = how & 2;
    int rc;

    params.capacity_bytes = fuzz_u32(in);
    if (faults)
        faults_take(in, d);
    if (how & 4)
        file_put(d, ROOT_SALT, fuzz_blob(in));
    if (how & 8) /* all that is left */
        file_put(d, ROOT_FILE, *in);
    memset(&info, 0xa5, sizeof info);
    untouched = info;
    salt = fake_dir_find(d, ROOT_SALT);
    rc = root_prepare(&d->io, "r", &params, &info);
    FUZZ_CHECK(params.may_write || d->writes == 0);
    if (rc) {
        FUZZ_CHECK(rc == -EBADMSG || rc == CISTERN_EFORMAT || rc == CISTERN_EKEY ||
                   (!params.may_write && rc == -ENOENT) ||
                   (faults && (rc == -EIO || rc == -ENOSPC)));
        FUZZ_CHECK(memcmp(&info, &untouched, sizeof info) == 0);
        FUZZ_CHECK(faults || rc != -EBADMSG || (salt && salt->len != 32));
        FUZZ_CHECK(*err_text());
        return;
    }
    salt = fake_dir_find(d, ROOT_SALT);
    FUZZ_CHECK(salt && salt->len == 32 && memcmp(salt->bytes, info.salt, 32) == 0);
    FUZZ_CHECK(fake_dir_find(d, ROOT_FILE) != NULL);
    if (info.healed || info.created)
        FUZZ_CHECK(info.capacity_bytes == params.capacity_bytes);
    else
        numbers_check(fake_dir_find(d, ROOT_FILE), &info);
    root_again(d, &params, &info);
}

static void space_check_dir(struct fuzz_in *in, struct fake_dir *d)
{
    uint8_t how = fuzz_u8(in);
    bool may_write = how & 1, faults = how & 2, own = how & 8, healed = false, again;
    const struct fake_file *f;
    char ours[SPACE_JSON_MAX], name[16];
    int rc, len = space_json(&space, ours, sizeof ours);

    fuzz_bytes(in, name, 15);
    name[15] = 0;
    file_put(d, name, (struct fuzz_in){0});
    if (faults)
        faults_take(in, d);
    if (how & 4)
        file_put(d, SPACE_FILE, *in);
    f = fake_dir_find(d, SPACE_FILE);
    if (f && (how & 16) && f->len <= SPACE_JSON_MAX)
        FUZZ_CHECK((space_compare((const char *)f->bytes, f->len, &space) == 0) <=
                   (f->len >= (size_t)len - 1)); /* shorter, it cannot say all of it */
    rc = space_prepare(&d->io, "r", own ? space_dir : "other", &space, fingerprint, may_write,
                       &healed);
    FUZZ_CHECK(may_write || d->writes == 0);
    if (rc) {
        FUZZ_CHECK((!own && rc == CISTERN_ESPACE) ||
                   (faults && (rc == -EIO || rc == -ENOSPC || rc == -EACCES)));
        return;
    }
    f = fake_dir_find(d, SPACE_FILE);
    if (!own) {
        FUZZ_CHECK(f && space_compare((const char *)f->bytes, f->len, &space) == 0 && !healed);
    } else if (may_write) {
        FUZZ_CHECK(f && f->len == (size_t)len && memcmp(f->bytes, ours, f->len) == 0);
        fake_dir_no_faults(d);
        FUZZ_CHECK(space_prepare(&d->io, "r", space_dir, &space, fingerprint, true, &again) == 0);
        FUZZ_CHECK(!again);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    struct fake_dir d;
    uint32_t ttl = 7;
    uint8_t what = fuzz_u8(&in);

    if (ttl_file_parse((const char *)in.at, in.left, &ttl))
        FUZZ_CHECK(ttl == 7);
    fake_dir_init(&d);
    if (what & 1)
        space_check_dir(&in, &d);
    else
        root_check(&in, &d);
    fake_dir_clear(&d);
    return 0;
}
