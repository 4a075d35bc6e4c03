/*
 * stat_live.c - `cistern stat --pid` and `--watch`: what the handles of this host do, from their
 * statistics pages, without a mount and without HTTP.
 *
 * A page is renewed twice a second, so rates are those between two looks, divided by the time that
 * passed between the two updates that were seen.
 */
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "json_out.h"
#include "metrics.h"
#include "text.h"

#define HANDLES 64

/* What is shown; the order is that of `names`. */
enum number {
    MATCHES,
    KEYS,
    FOUND,
    GETS,
    HITS,
    MISSES,
    GET_BYTES,
    GET_NS,
    GET_FAILED,
    PUTS,
    STORED,
    PRESENT,
    DROPPED,
    PUT_BYTES,
    PUT_FAILED,
    TIMEOUTS,
    BAD,
    BAD_LENGTH,
    EVICTED,
    CARRIED,
    SAVED_TOKENS,
    SAVED_NS,
    SPENT_NS,
    HIT_NOW,
    HIT_TOTAL,
    READ_USED,
    READ_ALL,
    WRITE_USED,
    WRITE_ALL,
    READ_QUARANTINED,
    WRITE_QUARANTINED,
    USAGE,
    CAPACITY,
    FS_FREE,
    FS_ALL,
    BLOCKS,
    BREAKER,
    BREAKER_PUTS,
    TRIPPED,
    UP,
    NUMBERS
};

static const char *const names[NUMBERS] = {
    "match_calls",
    "match_keys",
    "match_blocks",
    "get_ops",
    "get_hit_blocks",
    "get_miss_blocks",
    "get_bytes",
    "get_ns",
    "get_failed_ops",
    "put_ops",
    "put_stored_blocks",
    "put_present_blocks",
    "put_dropped_blocks",
    "put_bytes",
    "put_failed_ops",
    "io_timeouts",
    "bad_checksum_blocks",
    "bad_length_blocks",
    "evicted_bytes",
    "carried_bytes",
    "saved_tokens",
    "saved_ns",
    "spent_ns",
    "match_hit_now_ppm",
    "match_hit_total_ppm",
    "read_staging_used_bytes",
    "read_staging_bytes",
    "write_staging_used_bytes",
    "write_staging_bytes",
    "read_slots_quarantined",
    "write_slots_quarantined",
    "usage_bytes",
    "capacity_bytes",
    "filesystem_free_bytes",
    "filesystem_bytes",
    "index_blocks",
    "breaker_open",
    "breaker_puts_open",
    "tripped",
    "up_ns",
};

struct handle {
    uint32_t pid, number, shard, shards, stale;
    char root[512], model[128], mode[16];
    uint64_t age_ns;
    uint64_t v[NUMBERS];
};

struct look {
    struct handle at[HANDLES];
    size_t n;
};

static int take(void *arg, const struct cistern_process *p)
{
    struct look *l = arg;
    struct handle *h = &l->at[l->n];
    uint32_t i, k;

    if (l->n == HANDLES)
        return 0;
    memset(h, 0, sizeof(*h));
    h->pid = p->pid;
    h->number = p->handle;
    h->shard = p->shard;
    h->shards = p->shards;
    h->stale = p->stale;
    h->age_ns = p->age_ns;
    snprintf(h->root, sizeof(h->root), "%s/%s", p->mount, p->root);
    snprintf(h->model, sizeof(h->model), "%s", p->model);
    snprintf(h->mode, sizeof(h->mode), "%s", p->mode);
    for (i = 0; i < p->nsamples; i++)
        for (k = 0; k < NUMBERS; k++)
            if (p->samples[i].kind != CISTERN_HISTOGRAM &&
                strcmp(p->samples[i].name, names[k]) == 0)
                h->v[k] = p->samples[i].value;
    l->n++;
    return 0;
}

static int look(uint32_t pid, struct look *l)
{
    struct cistern_process_query q = {.size = sizeof(q), .pid = pid};
    int r;

    l->n = 0;
    r = cistern_process_list(&q, take, l);
    return r < 0 ? cli_fail_lib(r, "the statistics pages") : CLI_OK;
}

static const struct handle *before(const struct look *l, const struct handle *h)
{
    size_t i;

    for (i = 0; i < l->n; i++)
        if (l->at[i].pid == h->pid && l->at[i].number == h->number && l->at[i].v[UP] <= h->v[UP])
            return &l->at[i];
    return NULL;
}

/* By how much a number grew in a second since the look before; without one, in all. */
static double rate(const struct handle *h, const struct handle *old, enum number k)
{
    double seconds = old ? (double)(h->v[UP] - old->v[UP]) / 1e9 : 0;

    return seconds > 0 ? (double)(h->v[k] - old->v[k]) / seconds : 0;
}

static const char *size_rate(const struct handle *h, const struct handle *old, enum number k,
                             char *buf, size_t size)
{
    return text_size((uint64_t)rate(h, old, k), buf, size);
}

static const char *health(const struct handle *h)
{
    return h->v[TRIPPED]        ? "TRIPPED: everything is a miss until it is opened again"
           : h->v[BREAKER]      ? "breaker OPEN: storage fails, everything is a miss"
           : h->v[BREAKER_PUTS] ? "breaker for puts OPEN: writes fail"
           : h->stale           ? "its numbers are old: stopped, or starved"
                                : "well";
}

static void print_totals(const struct handle *h)
{
    char a[32], b[32];

    printf("  matches %" PRIu64 ", gets %" PRIu64 " (%" PRIu64 " blocks hit, %" PRIu64
           " missed, %s), failed %" PRIu64 "\n",
           h->v[MATCHES], h->v[GETS], h->v[HITS], h->v[MISSES],
           text_size(h->v[GET_BYTES], a, sizeof(a)), h->v[GET_FAILED]);
    printf("  puts %" PRIu64 " (%" PRIu64 " blocks stored, %" PRIu64 " present, %" PRIu64
           " dropped, %s), failed %" PRIu64 "\n",
           h->v[PUTS], h->v[STORED], h->v[PRESENT], h->v[DROPPED],
           text_size(h->v[PUT_BYTES], a, sizeof(a)), h->v[PUT_FAILED]);
    printf("  timeouts %" PRIu64 ", bad blocks %" PRIu64 ", evicted %s, carried over %s\n",
           h->v[TIMEOUTS], h->v[BAD] + h->v[BAD_LENGTH], text_size(h->v[EVICTED], a, sizeof(a)),
           text_size(h->v[CARRIED], b, sizeof(b)));
}

static void print_rates(const struct handle *h, const struct handle *old)
{
    double gets = rate(h, old, GETS), ns = rate(h, old, GET_NS);
    char a[32];

    printf("  a second: matches %.1f, gets %.1f (%s, %.2f ms each), ", rate(h, old, MATCHES), gets,
           size_rate(h, old, GET_BYTES, a, sizeof(a)), gets > 0 ? ns / gets / 1e6 : 0.0);
    printf("puts %.1f (%s), blocks hit %.1f, missed %.1f\n", rate(h, old, PUTS),
           size_rate(h, old, PUT_BYTES, a, sizeof(a)), rate(h, old, HITS), rate(h, old, MISSES));
}

static void print_state(const struct handle *h)
{
    char a[32], b[32], c[32], d[32];

    printf("  hit rate %.1f %% now, %.1f %% in total; saved %" PRIu64
           " tokens and %.1f s, spent %.1f s\n",
           (double)h->v[HIT_NOW] / 1e4, (double)h->v[HIT_TOTAL] / 1e4, h->v[SAVED_TOKENS],
           (double)h->v[SAVED_NS] / 1e9, (double)h->v[SPENT_NS] / 1e9);
    printf("  staging in use: read %s of %s, write %s of %s; quarantined buffers %" PRIu64 "\n",
           text_size(h->v[READ_USED], a, sizeof(a)), text_size(h->v[READ_ALL], b, sizeof(b)),
           text_size(h->v[WRITE_USED], c, sizeof(c)), text_size(h->v[WRITE_ALL], d, sizeof(d)),
           h->v[READ_QUARANTINED] + h->v[WRITE_QUARANTINED]);
    printf("  %" PRIu64 " blocks known; root takes %s of %s; file system: %s of %s free\n",
           h->v[BLOCKS], text_size(h->v[USAGE], a, sizeof(a)),
           h->v[CAPACITY] ? text_size(h->v[CAPACITY], b, sizeof(b)) : "no limit",
           text_size(h->v[FS_FREE], c, sizeof(c)), text_size(h->v[FS_ALL], d, sizeof(d)));
}

static void print_look(const struct look *l, const struct look *old)
{
    size_t i;

    for (i = 0; i < l->n; i++) {
        const struct handle *h = &l->at[i], *o = old ? before(old, h) : NULL;

        printf("%spid %u handle %u: %s, %s, shard %u of %u, %s, up %.0f s\n", i ? "\n" : "", h->pid,
               h->number, h->root, h->model, h->shard, h->shards, h->mode, (double)h->v[UP] / 1e9);
        printf("  health: %s\n", health(h));
        if (o)
            print_rates(h, o);
        print_totals(h);
        print_state(h);
    }
    if (l->n == 0)
        printf("no handle reports\n");
    fflush(stdout);
}

static json_t *handle_json(const struct handle *h, const struct handle *old)
{
    json_t *o = json_object(), *numbers = json_object(), *rates = json_object();
    int k;

    json_out_number(o, "pid", h->pid);
    json_out_number(o, "handle", h->number);
    json_out_text(o, "root", h->root);
    json_out_text(o, "model", h->model);
    json_out_number(o, "shard", h->shard);
    json_out_text(o, "health", health(h));
    json_out_real(o, "age_s", (double)h->age_ns / 1e9);
    for (k = 0; k < NUMBERS; k++)
        json_out_number(numbers, names[k], h->v[k]);
    json_object_set_new(o, "metrics", numbers);
    for (k = 0; old && k < HIT_NOW; k++)
        json_out_real(rates, names[k], rate(h, old, (enum number)k));
    json_object_set_new(o, "per_second", rates);
    return o;
}

static int print_look_json(const struct look *l, const struct look *old)
{
    json_t *o = json_object(), *list = json_array();
    size_t i;

    for (i = 0; i < l->n; i++)
        json_array_append_new(list, handle_json(&l->at[i], old ? before(old, &l->at[i]) : NULL));
    json_object_set_new(o, "handles", list);
    return json_out_print(o);
}

static int show(const struct look *l, const struct look *old, bool json)
{
    if (json)
        return print_look_json(l, old);
    print_look(l, old);
    return CLI_OK;
}

static volatile sig_atomic_t stopped;

static void stop(int number)
{
    (void)number;
    stopped = 1;
}

int stat_live(uint32_t pid, uint64_t interval_s, uint64_t times, bool json)
{
    struct sigaction sa = {.sa_handler = stop};
    struct look *l = calloc(2, sizeof(*l));
    uint64_t i;
    int r;

    if (l == NULL)
        return cli_fail(CLI_ENVIRONMENT, "out of memory");
    r = look(pid, &l[0]);
    if (r == CLI_OK && pid && l[0].n == 0)
        r = cli_fail(CLI_ENVIRONMENT,
                     "no handle of process %u reports: it has none open, is another user's, or has "
                     "stat_page off",
                     pid);
    if (r == CLI_OK)
        r = show(&l[0], NULL, json);
    (void)sigaction(SIGINT, &sa, NULL);
    (void)sigaction(SIGTERM, &sa, NULL);
    for (i = 1; r == CLI_OK && interval_s && !stopped && (times == 0 || i < times); i++) {
        (void)poll(NULL, 0, (int)(interval_s * 1000));
        if (stopped)
            break;
        if (!json)
            printf("\n");
        r = look(pid, &l[i % 2]);
        if (r == CLI_OK)
            r = show(&l[i % 2], &l[(i + 1) % 2], json);
        fflush(stdout);
    }
    free(l);
    return r;
}
