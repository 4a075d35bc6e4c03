/*
 * engine.c - an engine for the tests of metrics: a store that does what stdin says, one word and
 * one number a line, and answers each with a line.
 *
 *   put N, get N, match N   of the first N blocks      text   cistern_metrics_text(), then a dot
 *   work N                  gets of one block, over and over, for N seconds; says how many
 *   quit
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../harness/store.h"

enum { MOST = 64 };

static unsigned char block[MOST][STORE_BLOCK];
static cistern_key keys[MOST];
static struct cistern_vec vecs[MOST];
static struct cistern_span spans[MOST];
static uint8_t results[MOST];

static double now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int transfer(cistern *c, bool put, uint32_t n, struct cistern_event *e)
{
    struct cistern_request r = {
        .size = sizeof r, .keys = keys, .blocks = n, .spans = spans, .results = results};
    uint32_t i;

    for (i = 0; i < n; i++) {
        if (put)
            store_fill(block[i], STORE_BLOCK, i);
        vecs[i] = (struct cistern_vec){block[i], STORE_BLOCK};
        spans[i] = (struct cistern_span){.vecs = &vecs[i], .count = 1};
    }
    return put ? cistern_put_sync(c, &r, e) : cistern_get_sync(c, &r, e);
}

static void work(cistern *c, uint32_t seconds)
{
    struct cistern_event e = {0};
    double until = now() + seconds;
    unsigned long gets = 0, hits = 0;

    while (now() < until) {
        gets += transfer(c, false, 1, &e) == 0;
        hits += e.hits;
    }
    printf("%lu %lu\n", gets, hits);
}

static void print_text(cistern *c)
{
    static char text[1 << 18];
    int64_t n = cistern_metrics_text(c, text, sizeof text);

    printf("%s.\n", n > 0 && n < (int64_t)sizeof text ? text : "failed\n");
}

static bool obey(cistern *c, const char *word, uint32_t n)
{
    struct cistern_event e = {0};
    struct cistern_match m = {0};

    n = n > MOST ? MOST : n;
    if (strcmp(word, "put") == 0 || strcmp(word, "get") == 0) {
        int rc = transfer(c, *word == 'p', n, &e);

        printf("%d %u %llu\n", rc, e.hits, (unsigned long long)e.bytes);
    } else if (strcmp(word, "match") == 0) {
        int rc = cistern_match(c, keys, n, &m);

        printf("%d %u\n", rc, m.blocks);
        (void)!cistern_ticket_release(c, m.ticket);
    } else if (strcmp(word, "work") == 0) {
        work(c, n);
    } else if (strcmp(word, "text") == 0) {
        print_text(c);
    } else {
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct store s;
    cistern *c = NULL;
    char line[128], word[16];
    unsigned n;
    uint32_t i;
    int rc;

    store_init(&s);
    s.space.model = argc > 1 ? argv[1] : "test";
    if (cistern_options_from_env(&s.o) || cistern_open(&s.o, &c)) {
        fprintf(stderr, "%s\n", cistern_error_text());
        return 1;
    }
    for (i = 0; i < MOST; i++)
        store_key(&keys[i], i);
    printf("%s\n", s.dir);
    (void)fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        n = 0;
        if (sscanf(line, "%15s %u", word, &n) < 1 || !obey(c, word, n))
            break;
        (void)fflush(stdout);
    }
    rc = cistern_close(c);
    store_rmdir(&s);
    return rc != 0;
}
