/*
 * test_random.c - random reads and writes, several in flight, against a model of the file in
 * memory: lengths, offsets and memory of any alignment, on plain, O_DIRECT and O_APPEND
 * descriptors. $CONFORM_SEED repeats a run.
 */
#include "../harness/skip.h"
#include "conform.h"

#define FILE_MAX  (MIB + 12345)
#define AREA      (96 * KIB)
#define IN_FLIGHT 8
#define STEPS     400

static uint64_t seed_now;

static uint64_t rnd(uint64_t below)
{
    seed_now ^= seed_now << 13;
    seed_now ^= seed_now >> 7;
    seed_now ^= seed_now << 17;
    return seed_now % below;
}

struct model {
    uint8_t bytes[FILE_MAX];
    size_t size;
};

struct range {
    size_t off, len;
};

/* Sometimes aligned, sometimes at the end, mostly anywhere. */
static struct range range_any(const struct model *model, bool read)
{
    struct range r = {rnd(FILE_MAX - AREA), 1 + rnd(AREA - 4096)};

    if (rnd(3) == 0) {
        r.off &= ~(size_t)4095;
        r.len = (r.len + 4095) & ~(size_t)4095;
    }
    if (read && rnd(5) == 0)
        r.off = model->size > 100 ? model->size - 100 : 0;
    return r;
}

static size_t readable(const struct model *model, struct range r)
{
    if (r.off >= model->size)
        return 0;
    return r.len < model->size - r.off ? r.len : model->size - r.off;
}

static void reap_all(struct hf3fs_ior *ior, struct hf3fs_cqe *cqes, int n)
{
    for (int got = 0; got < n;) {
        int k =
            hf3fs_wait_for_ios(ior, cqes + got, n - got, (int)rnd((uint64_t)(n - got)) + 1, NULL);

        CHECK(k > 0);
        got += k;
    }
}

/* Writes to places that do not overlap, all at once. */
static void write_some(struct hf3fs_ior *w, struct hf3fs_iov *iov, int fd, struct model *model)
{
    int n = 1 + (int)rnd(IN_FLIGHT), used = 0;
    struct range done[IN_FLIGHT];
    struct hf3fs_cqe cqes[IN_FLIGHT];

    for (int i = 0; i < n; i++) {
        struct range r = range_any(model, false);
        uint8_t *p = iov->base + (size_t)i * AREA + rnd(3) * 1000;
        bool overlaps = false;

        for (int k = 0; k < used; k++)
            overlaps |= r.off < done[k].off + done[k].len && done[k].off < r.off + r.len;
        if (overlaps || r.len > AREA - 2000)
            continue;
        pattern(p, r.len, (unsigned)rnd(1000));
        CHECK(hf3fs_prep_io(w, iov, false, p, fd, r.off, r.len, (void *)r.len) >= 0);
        if (r.off > model->size)
            memset(model->bytes + model->size, 0, r.off - model->size);
        memcpy(model->bytes + r.off, p, r.len);
        if (r.off + r.len > model->size)
            model->size = r.off + r.len;
        done[used++] = r;
    }
    CHECK_EQ(hf3fs_submit_ios(w), 0);
    reap_all(w, cqes, used);
    for (int i = 0; i < used; i++)
        CHECK_EQ(cqes[i].result, (intptr_t)cqes[i].userdata);
}

static void read_some(struct hf3fs_ior *r, struct hf3fs_iov *iov, int fd, const struct model *model)
{
    struct range ranges[IN_FLIGHT];
    struct hf3fs_cqe cqes[IN_FLIGHT];
    uint8_t *at[IN_FLIGHT];
    int n = 1 + (int)rnd(IN_FLIGHT);

    memset(iov->base, 0xc3, IN_FLIGHT * AREA);
    for (int i = 0; i < n; i++) {
        ranges[i] = range_any(model, true);
        if (ranges[i].len > AREA - 4096)
            ranges[i].len = 4096;
        at[i] = iov->base + (size_t)i * AREA + rnd(3) * 1000;
        CHECK(hf3fs_prep_io(r, iov, true, at[i], fd, ranges[i].off, ranges[i].len,
                            (void *)(intptr_t)i) >= 0);
    }
    CHECK_EQ(hf3fs_submit_ios(r), 0);
    reap_all(r, cqes, n);
    for (int k = 0; k < n; k++) {
        int i = (int)(intptr_t)cqes[k].userdata;
        size_t want = readable(model, ranges[i]);

        CHECK_EQ(cqes[k].result, want);
        CHECK(memcmp(at[i], model->bytes + ranges[i].off, want) == 0);
        for (size_t j = want; j < ranges[i].len; j++)
            CHECK_EQ(at[i][j], 0xc3);
    }
}

static void run_random(int flags)
{
    const char *text = getenv("CONFORM_SEED");
    struct model *model = calloc(1, sizeof(*model));
    struct hf3fs_iov iov = memory_new(IN_FLIGHT * AREA);
    struct hf3fs_ior w = ring_new(IN_FLIGHT, false), r = ring_new(IN_FLIGHT, true);
    int fd = open(in_mount("random"), O_CREAT | O_TRUNC | O_RDWR | flags, 0644);

    if (fd < 0 && errno == EINVAL)
        SKIP("this file system has no O_DIRECT");
    CHECK(model != NULL);
    seed_now = text != NULL ? strtoull(text, NULL, 0) : (uint64_t)now_ms() * 2654435761u + 1;
    print_message("CONFORM_SEED=%llu\n", (unsigned long long)seed_now);
    CHECK(hf3fs_reg_fd(fd, 0) <= 0);
    for (int step = 0; step < STEPS; step++) {
        if (rnd(2) == 0)
            write_some(&w, &iov, fd, model);
        else
            read_some(&r, &iov, fd, model);
    }
    hf3fs_dereg_fd(fd);
    close(fd);
    hf3fs_iordestroy(&w);
    hf3fs_iordestroy(&r);
    hf3fs_iovdestroy(&iov);
    free(model);
}

static void plain(void **state)
{
    (void)state;
    run_random(0);
}

static void direct(void **state)
{
    (void)state;
    run_random(O_DIRECT);
}

static void append(void **state)
{
    (void)state;
    run_random(O_APPEND);
}

static void direct_append(void **state)
{
    (void)state;
    run_random(O_APPEND | O_DIRECT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain),
        cmocka_unit_test(direct),
        cmocka_unit_test(append),
        cmocka_unit_test(direct_append),
    };

    return cmocka_run_group_tests_name("random", tests, mount_setup, mount_teardown);
}
