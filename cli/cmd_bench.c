/*
 * cmd_bench.c - `cistern bench`: options, defaults that suit the place, and the order of figures.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "args.h"
#include "bench_figures.h"
#include "cli.h"
#include "text.h"

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

static const char *const figure_names[] = {"put",    "get",   "rand", "guard", "share",
                                           "scrape", "match", "key",  "open",  "all"};

#define NFIGURES (sizeof(figure_names) / sizeof(figure_names[0]))

/* What to measure, as the command line says it. */
struct words {
    char **list;
    int n;
};

static const char about[] =
    "Measures the store beside a baseline in alternating slices of one process, and prints the\n"
    "median of the pairwise ratios with its 95 % interval.\n\n"
    "  put    blocks written, beside raw io_uring writes (O_DIRECT)\n"
    "  get    blocks read in order and verified, beside raw io_uring reads of the same files\n"
    "  rand   blocks read at random and verified, likewise\n"
    "  guard  gets with the breaker and the cost gate on, beside gets with both off\n"
    "  share  puts and gets beside another process, with following, bell and a capacity, beside\n"
    "         the same without them\n"
    "  scrape gets beside a process that reads the numbers four times a second, beside gets of\n"
    "         which nobody takes notice\n"
    "  match  nanoseconds a key, beside one random line of memory a key\n"
    "  key    derivation of the keys of 512 tokens\n"
    "  open   match-only open of a root, beside read() of its contents files\n"
    "  all    put, get, rand, match and key\n\n"
    "Several, but open, can be asked for at once; get and rand then share one fill.\n"
    "On tmpfs the baseline of put, get and rand is memcpy between areas larger than the caches.\n";

static const char tail[] =
    "CPU seconds are the whole process's: caller, lanes, and the kernel's io_uring workers, but\n"
    "not its interrupts. A block that a get does not report as a verified hit ends the bench with\n"
    "exit status 4.\n\n"
    "examples:\n"
    "  cistern bench get rand --dir /mnt/nvme --block 2M\n"
    "  cistern bench all --dir /dev/shm/b --block 64K --json > slices.json\n"
    "  cistern bench open --dir /mnt/nvme --root rtp_llm\n";

static void config_defaults(struct bench_config *c)
{
    *c = (struct bench_config){.block = 2 * MIB,
                               .lanes = 1,
                               .depth = 32,
                               .io_bytes = MIB,
                               .parts = 1,
                               .request = 16 * MIB,
                               .inflight = 8,
                               .segment = 256 * MIB,
                               .chain = 256,
                               .seed = 1};
}

static uint64_t round_down(uint64_t v, uint64_t to)
{
    return v / to * to;
}

/* More than the caches hold, or what is read and written would come from them. */
static uint64_t beyond_caches(void)
{
    long l3 = sysconf(_SC_LEVEL3_CACHE_SIZE);

    return l3 > 0 && 2 * (uint64_t)l3 > 512 * MIB ? round_down(2 * (uint64_t)l3, MIB) : 512 * MIB;
}

/* What the command line left open. */
static void config_complete(struct bench_config *c, bool memory, bool open)
{
    if (c->slices == 0)
        c->slices = c->quick ? 5 : open ? 10 : 40;
    if (c->seconds == 0)
        c->seconds = c->quick ? 0.1 : 0.5;
    c->warmup = c->quick ? 1 : 2;
    if (c->total == 0)
        c->total = c->quick ? 256 * MIB : memory ? GIB : 4 * GIB;
    if (c->count == 0)
        c->count = c->quick ? 20000 : 1000000;
    if (c->arena == 0)
        c->arena = c->quick ? 64 * MIB : beyond_caches();
    if (c->quick && c->segment > 64 * MIB)
        c->segment = 64 * MIB;
    if (c->staging == 0)
        c->staging = 256 * MIB;
}

static int config_check(const struct bench_config *c)
{
    if (c->block % (BENCH_PAGE * c->parts) != 0)
        return cli_fail(CLI_USAGE,
                        "--block %llu: not %llu parts of whole pages of 4 KiB each, so O_DIRECT "
                        "cannot compare",
                        (unsigned long long)c->block, (unsigned long long)c->parts);
    if (c->io_bytes % BENCH_PAGE != 0)
        return cli_fail(CLI_USAGE, "--io-bytes %llu: a multiple of 4K is needed",
                        (unsigned long long)c->io_bytes);
    if (c->depth < c->lanes)
        return cli_fail(CLI_USAGE, "--depth %llu is less than one for each of %llu lanes",
                        (unsigned long long)c->depth, (unsigned long long)c->lanes);
    if (c->total != 0 && c->total < 4 * c->block)
        return cli_fail(CLI_USAGE, "--total: at least four blocks are needed");
    if (c->segment < c->block)
        return cli_fail(CLI_USAGE, "--segment: a block must fit in it");
    if (c->arena != 0 && (c->arena % BENCH_PAGE != 0 || c->arena < 4 * c->block))
        return cli_fail(CLI_USAGE, "--arena: whole pages, at least four blocks");
    return CLI_OK;
}

static void stop(int sig)
{
    (void)sig;
    bench_stopped = 1;
}

static void catch_signals(void)
{
    struct sigaction sa = {.sa_handler = stop};

    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
}

static bool is(const char *word, const char *name)
{
    return strcmp(word, name) == 0;
}

static bool named(const struct words *w, const char *name)
{
    int i;

    for (i = 0; i < w->n; i++)
        if (is(w->list[i], name))
            return true;
    return false;
}

static bool asked(const struct words *w, const char *name)
{
    return named(w, name) || (named(w, "all") && !is(name, "open"));
}

static int storage_take(struct bench_run *run, const struct words *w)
{
    bool put = asked(w, "put"), in_order = asked(w, "get"), random = asked(w, "rand");
    int r = CLI_OK;

    if (run->c.encrypt && (put || in_order || random)) {
        r = bench_encrypt(run, put, in_order, random);
        put = in_order = random = false;
    }
    if (r == CLI_OK && put)
        r = bench_put(run);
    if (r == CLI_OK && (in_order || random || named(w, "guard")))
        r = bench_get(run, in_order, random, named(w, "guard"));
    return r;
}

static int figures_take(struct bench_run *run, const struct words *w)
{
    int r = storage_take(run, w);

    if (r == CLI_OK && named(w, "share"))
        r = bench_share(run);
    if (r == CLI_OK && named(w, "scrape"))
        r = bench_scrape(run);
    if (r == CLI_OK && asked(w, "match"))
        r = bench_match(run);
    if (r == CLI_OK && asked(w, "key"))
        r = bench_key(run);
    if (r == CLI_OK && asked(w, "open"))
        r = bench_open(run, run->place.made_root);
    return r;
}

static int run_in_place(struct bench_run *run, const struct words *w)
{
    bool open = asked(w, "open");
    int r;

    r = place_open(&run->place, &run->c, !(open && run->c.root != NULL));
    if (r == CLI_OK) {
        config_complete(&run->c, run->place.memory_backed, open);
        r = config_check(&run->c);
    }
    if (r == CLI_OK)
        r = figures_take(run, w);
    place_close(&run->place, run->c.keep && r == CLI_OK);
    if (r == CLI_OK && run->c.json)
        r = table_print_json(run);
    else if (r == CLI_OK)
        table_print(run);
    figures_release(&run->figures);
    return r;
}

static int word_check(const char *word)
{
    const char *near;
    size_t i;

    for (i = 0; i < NFIGURES; i++)
        if (is(word, figure_names[i]))
            return CLI_OK;
    near = args_nearest(word, figure_names, NFIGURES);
    if (near != NULL)
        return cli_fail(CLI_USAGE, "bench cannot measure '%s'; did you mean '%s'?", word, near);
    return cli_fail(CLI_USAGE,
                    "bench cannot measure '%s'; it can: put, get, rand, guard, share, scrape, "
                    "match, key, open, all",
                    word);
}

static int words_check(const struct words *w)
{
    int i, r = CLI_OK;

    for (i = 0; i < w->n && r == CLI_OK; i++) {
        r = word_check(w->list[i]);
        if (r == CLI_OK && w->n > 1 && is(w->list[i], "open"))
            r = cli_fail(CLI_USAGE, "bench open stands alone: it looks at another kind of root");
    }
    return r;
}

static int parse(struct bench_config *c, int argc, char **argv, struct words *w)
{
    const struct arg args[] = {
        {"dir", "DIR", ARG_STRING, &c->dir, 0, 0,
         "mount directory (default: a fresh one here, removed at the end)"},
        {"root", "NAME", ARG_STRING, &c->root, 0, 0, "root below it (default: a fresh one)"},
        {"keep", NULL, ARG_FLAG, &c->keep, 0, 0, "leave what was written where it is"},
        {"block", "SIZE", ARG_SIZE, &c->block, BENCH_PAGE, GIB, "bytes of a block (2M)"},
        {"parts", "N", ARG_NUMBER, &c->parts, 1, 16, "parts of a block (1)"},
        {"total", "SIZE", ARG_SIZE, &c->total, BENCH_PAGE, 0,
         "bytes stored (4G; in memory 1G; quick 256M)"},
        {"count", "N", ARG_NUMBER, &c->count, 16, 1ull << 31,
         "blocks for match and open (1000000; quick 20000)"},
        {"lanes", "N", ARG_NUMBER, &c->lanes, 1, 64, "I/O threads, ours and the baseline's (1)"},
        {"depth", "N", ARG_NUMBER, &c->depth, 1, 4096, "I/Os in flight over all lanes (32)"},
        {"io-bytes", "SIZE", ARG_SIZE, &c->io_bytes, BENCH_PAGE, 64 * MIB, "one I/O (1M)"},
        {"request", "SIZE", ARG_SIZE, &c->request, BENCH_PAGE, GIB,
         "bytes that one put or get asks for (16M)"},
        {"inflight", "N", ARG_NUMBER, &c->inflight, 1, 256, "puts or gets in flight (8)"},
        {"slices", "N", ARG_NUMBER, &c->slices, 1, 100000,
         "pairs of slices a figure (40; open 10; quick 5)"},
        {"seconds", "S", ARG_DECIMAL, &c->seconds, 0, 0, "of a slice (0.5; quick 0.1)"},
        {"quick", NULL, ARG_FLAG, &c->quick, 0, 0, "a few seconds, to see that it works"},
        {"chain", "N", ARG_NUMBER, &c->chain, 1, 1u << 20, "keys of a match (256)"},
        {"puts", "N", ARG_NUMBER, &c->puts, 1, 10000000,
         "blocks a second put beside matches of 2,048 keys (none)"},
        {"sync-inside", NULL, ARG_FLAG, &c->sync_inside, 0, 0,
         "put: time the sync behind each slice as well, both sides"},
        {"direct", NULL, ARG_FLAG, &c->direct, 0, 0,
         "get and rand: read straight into registered memory"},
        {"buffered", NULL, ARG_FLAG, &c->buffered, 0, 0, "ours without O_DIRECT"},
        {"encrypt", NULL, ARG_FLAG, &c->encrypt, 0, 0,
         "put, get and rand: encrypted with a key made up for the run, beside the same plain, "
         "AES-256-GCM of OpenSSL alone, and memcpy or raw reads"},
        {"raw-huge", NULL, ARG_FLAG, &c->raw_huge, 0, 0,
         "the baseline's buffers in huge pages, not in shared memory as ours"},
        {"arena", "SIZE", ARG_SIZE, &c->arena, MIB, 0,
         "memory to read into and write from (twice the caches)"},
        {"staging", "SIZE", ARG_SIZE, &c->staging, MIB, 0, "of the store, each direction (256M)"},
        {"segment", "SIZE", ARG_SIZE, &c->segment, MIB, 0, "bytes of a data file (256M)"},
        {"provider", "NAME", ARG_STRING, &c->provider, 0, 0, "auto, hf3fs or local (auto)"},
        {"provider-path", "FILE", ARG_STRING, &c->provider_path, 0, 0,
         "absolute path of libhf3fs_api_shared.so"},
        {"seed", "N", ARG_NUMBER, &c->seed, 0, 0, "of what is chosen at random (1)"},
        {"json", NULL, ARG_FLAG, &c->json, 0, 0, "one JSON object with every slice"},
    };
    const struct arg_page page = {.usage =
                                      "cistern bench put|get|rand|match|key|open|all ... [options]",
                                  .about = about,
                                  .args = args,
                                  .nargs = sizeof(args) / sizeof(args[0]),
                                  .tail = tail};
    int r;

    r = args_parse(&page, argc, argv, (int)NFIGURES, &w->n);
    if (r != ARG_GO)
        return r;
    if (w->n == 0)
        return cli_fail(CLI_USAGE, "bench what? usage: %s", page.usage);
    w->list = argv;
    return ARG_GO;
}

/* A key file, readable by its owner only, as mkstemp() makes it. */
static int key_make(struct bench_config *c)
{
    uint8_t key[32];
    bool good;
    int fd;

    snprintf(c->key_file, sizeof(c->key_file), "/tmp/cistern-bench-key-XXXXXX");
    fd = mkstemp(c->key_file);
    if (fd < 0)
        return cli_fail(CLI_ENVIRONMENT, "no key file can be made in /tmp");
    good = getrandom(key, sizeof(key), 0) == (ssize_t)sizeof(key) &&
           write(fd, key, sizeof(key)) == (ssize_t)sizeof(key);
    return close(fd) == 0 && good ? CLI_OK
                                  : cli_fail(CLI_ENVIRONMENT, "%s cannot be written", c->key_file);
}

static void key_remove(const struct bench_config *c)
{
    if (c->encrypt && c->key_file[0])
        unlink(c->key_file);
}

int cmd_bench(int argc, char **argv)
{
    struct bench_run run;
    struct words w;
    int r;

    memset(&run, 0, sizeof(run));
    config_defaults(&run.c);
    r = parse(&run.c, argc, argv, &w);
    if (r != ARG_GO)
        return r;
    r = words_check(&w);
    if (r == CLI_OK)
        r = config_check(&run.c);
    if (r != CLI_OK)
        return r;
    catch_signals();
    r = run.c.encrypt ? key_make(&run.c) : CLI_OK;
    if (r == CLI_OK)
        r = run_in_place(&run, &w);
    key_remove(&run.c);
    if (r == BENCH_INTERRUPTED || (bench_stopped && r != CLI_OK)) {
        signal(SIGINT, SIG_DFL);
        raise(SIGINT);
    }
    return r;
}
