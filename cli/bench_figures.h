/*
 * bench_figures.h - the kinds of figures that `cistern bench` can take.
 */
#ifndef CLI_BENCH_FIGURES_H
#define CLI_BENCH_FIGURES_H

#include "bench.h"
#include "bench_place.h"
#include "bench_slices.h"

struct bench_run {
    struct bench_config c;
    struct bench_place place;
    struct figures figures;
};

/* Each adds its figures to run->figures. CLI_OK or an exit code, after saying why. */
int bench_put(struct bench_run *run);
/* guarded: gets with breaker and cost gate on, beside gets without. */
int bench_get(struct bench_run *run, bool in_order, bool random, bool guarded);
/* Puts and gets of a store that another process has open too, with a capacity. */
int bench_share(struct bench_run *run);
/* Gets beside a process that reads the statistics page. */
int bench_scrape(struct bench_run *run);
/* Put and get of an encrypted store beside a plain one and the cipher alone. */
int bench_encrypt(struct bench_run *run, bool put, bool in_order, bool random);
int bench_match(struct bench_run *run);
int bench_key(struct bench_run *run);
int bench_open(struct bench_run *run, bool build);
/* Fills the root with c.count blocks whose payloads were given back. */
int bench_hollow_build(struct bench_run *run);

/* The answer. */
void table_print(const struct bench_run *run);
int table_print_json(const struct bench_run *run);

#endif
