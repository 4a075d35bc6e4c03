/*
 * replay_report.c - what a replay found, in words and as JSON.
 */
#include <stdlib.h>
#include <string.h>

#include "json_out.h"
#include "replay.h"
#include "text.h"

static int by_value(const void *x, const void *y)
{
    float a = *(const float *)x, b = *(const float *)y;

    return a < b ? -1 : a > b;
}

void replay_times(const struct replay_result *r, bool with, struct replay_times *out)
{
    float *v = calloc(r->requests + 1, sizeof(*v));
    uint64_t i, last = r->requests ? r->requests - 1 : 0;
    double sum = 0;

    memset(out, 0, sizeof(*out));
    if (!v || !r->requests) {
        free(v);
        return;
    }
    for (i = 0; i < r->requests; i++) {
        v[i] = with ? r->samples[i].with : r->samples[i].recompute;
        sum += v[i];
    }
    qsort(v, r->requests, sizeof(*v), by_value);
    *out = (struct replay_times){.mean = sum / (double)r->requests,
                                 .p50 = v[last / 2],
                                 .p90 = v[last * 9 / 10],
                                 .p99 = v[last * 99 / 100]};
    free(v);
}

/* One, two, five of each power of ten, and all of it. */
size_t replay_points(const struct replay_trace *t, uint64_t out[REPLAY_POINTS])
{
    static const uint64_t steps[] = {1, 2, 5};
    uint64_t power, v;
    size_t n = 0, i;

    for (power = 100; power < UINT64_C(10000000000); power *= 10) {
        for (i = 0; i < 3; i++) {
            v = power * steps[i];
            if (v >= t->distinct || n + 1 >= REPLAY_POINTS)
                goto end;
            out[n++] = v;
        }
    }
end:
    out[n++] = t->distinct;
    return n;
}

static double percent(uint64_t part, uint64_t all)
{
    return all ? 100.0 * (double)part / (double)all : 0;
}

static double rate(uint64_t bytes, double seconds)
{
    return seconds > 0 ? (double)bytes / seconds : 0;
}

static void print_times(const char *what, const struct replay_times *t)
{
    printf("  %-28s %9.1f ms %9.1f ms %9.1f ms %9.1f ms\n", what, t->mean * 1e3, t->p50 * 1e3,
           t->p90 * 1e3, t->p99 * 1e3);
}

static void print_curve(const struct replay_config *c, const struct replay_trace *t,
                        const struct replay_curve *curve)
{
    uint64_t points[REPLAY_POINTS];
    size_t n = replay_points(t, points), i;
    char size[32];

    printf("\nhit ratio of a least-recently-used cache by its capacity\n");
    for (i = 0; i < n; i++)
        printf("  %10llu blocks %12s %7.2f %%%s\n", (unsigned long long)points[i],
               text_size(points[i] * c->block_bytes * c->tp, size, sizeof(size)),
               percent(replay_curve_hits(curve, points[i]), curve->references),
               i + 1 == n ? "  room for everything" : "");
}

void replay_print(const struct replay_config *c, const struct replay_trace *t,
                  const struct replay_result *r, const struct replay_curve *curve)
{
    struct replay_times without, with;
    char a[32], b[32];

    replay_times(r, false, &without);
    replay_times(r, true, &with);
    printf("%llu requests, %llu blocks of %u tokens, %u distinct; %s a block on each of %llu "
           "ranks\n\n",
           (unsigned long long)r->requests, (unsigned long long)r->references, t->block_tokens,
           t->distinct, text_size(c->block_bytes, a, sizeof(a)), (unsigned long long)c->tp);
    printf("  hit ratio                    %9.2f %% of blocks (%llu)\n",
           percent(r->hits, r->references), (unsigned long long)r->hits);
    printf("  with room for everything     %9.2f %%\n",
           percent(replay_curve_hits(curve, UINT64_MAX), curve->references));
    printf("  tokens not computed          %9.2f %% (%llu of %llu)\n",
           percent(r->tokens_saved, r->tokens), (unsigned long long)r->tokens_saved,
           (unsigned long long)r->tokens);
    printf("  read                         %11s at %s/s, verified\n",
           text_size(r->bytes_read, a, sizeof(a)),
           text_size((uint64_t)rate(r->bytes_read, r->load_seconds), b, sizeof(b)));
    printf("  written                      %11s at %s/s, %.3f times what was put\n",
           text_size(r->bytes_written, a, sizeof(a)),
           text_size((uint64_t)rate(r->bytes_put, r->put_seconds), b, sizeof(b)),
           r->bytes_put ? (double)r->bytes_written / (double)r->bytes_put : 1);
    printf("  dropped, errors, wrong       %llu, %llu, %llu blocks\n\n",
           (unsigned long long)r->dropped, (unsigned long long)r->errors,
           (unsigned long long)r->wrong);
    printf("  time to first token               mean          p50          p90          p99\n");
    print_times("computing everything", &without);
    print_times("with the store", &with);
    print_curve(c, t, curve);
}

static json_t *times_json(const struct replay_times *t)
{
    json_t *o = json_object();

    json_out_real(o, "mean", t->mean);
    json_out_real(o, "p50", t->p50);
    json_out_real(o, "p90", t->p90);
    json_out_real(o, "p99", t->p99);
    return o;
}

static json_t *curve_json(const struct replay_trace *t, const struct replay_curve *curve)
{
    uint64_t points[REPLAY_POINTS];
    size_t n = replay_points(t, points), i;
    json_t *list = json_array(), *o;

    for (i = 0; i < n; i++) {
        o = json_object();
        json_out_number(o, "blocks", points[i]);
        json_out_number(o, "hits", replay_curve_hits(curve, points[i]));
        (void)json_array_append_new(list, o);
    }
    return list;
}

int replay_print_json(const struct replay_config *c, const struct replay_trace *t,
                      const struct replay_result *r, const struct replay_curve *curve)
{
    struct replay_times without, with;
    json_t *o = json_object();

    replay_times(r, false, &without);
    replay_times(r, true, &with);
    json_out_number(o, "requests", r->requests);
    json_out_number(o, "block_tokens", t->block_tokens);
    json_out_number(o, "block_bytes", c->block_bytes);
    json_out_number(o, "ranks", c->tp);
    json_out_number(o, "references", r->references);
    json_out_number(o, "distinct", t->distinct);
    json_out_number(o, "hits", r->hits);
    json_out_number(o, "hits_unlimited", replay_curve_hits(curve, UINT64_MAX));
    json_out_number(o, "tokens", r->tokens);
    json_out_number(o, "tokens_saved", r->tokens_saved);
    json_out_number(o, "bytes_read", r->bytes_read);
    json_out_number(o, "bytes_put", r->bytes_put);
    json_out_number(o, "bytes_written", r->bytes_written);
    json_out_real(o, "read_rate", rate(r->bytes_read, r->load_seconds));
    json_out_real(o, "put_rate", rate(r->bytes_put, r->put_seconds));
    json_out_number(o, "dropped", r->dropped);
    json_out_number(o, "errors", r->errors);
    json_out_number(o, "wrong", r->wrong);
    json_out_real(o, "seconds", r->wall_seconds);
    (void)json_object_set_new(o, "ttft_recompute", times_json(&without));
    (void)json_object_set_new(o, "ttft", times_json(&with));
    (void)json_object_set_new(o, "lru", curve_json(t, curve));
    return json_out_print(o);
}
