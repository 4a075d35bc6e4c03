/*
 * scenario.c - runs scenarios, each in a process of its own: at least 300 operations of three
 * stores on two hosts over one simulated file system, with three kinds of faults, kills and
 * restarts.
 *
 *   scenario --seed N [-v]                 one again; -v tells every step, -vv the store's log too
 *   scenario --seeds N [--from N] [--jobs N] [--stop] [--again N]
 *
 * --jobs N: so many at a time (8; they mostly wait). --stop ends at the first that fails.
 * --lenient: a live store may have missed something, if it has it when it is opened anew; these are
 * counted.
 * --again N: a seed does not fix how threads interleave, and a judgement of room, time or presence
 * can be wrong on a machine that stood still. A scenario that fails by such a judgement is run N
 * times more; if none fails it is reported and counted as run again. Wrong bytes, blocks that
 * nobody put, changed memory, a tripped handle and a crash fail at once.
 *
 * Prints each seed that fails with the reason; how often each kind of fault was met while which
 * operation was the last begun; and in how many scenarios, with faults and without, segments were
 * evicted, their data collected, blocks carried over, and the file system full. 200 scenarios or
 * more must have reached all four without faults. Exit status 0: nothing was wrong.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/clock.h"
#include "pace.h"
#include "world.h"

#define STEPS        320u
#define OPS_LEAST    300u /* operations that a store took, in each scenario */
#define CHECK_EACH   80u
#define SQUEEZE_EACH 100u
#define LIMIT_S      170u
#define GRAVE        3  /* exit status */
#define UNSURE_MOST  3u /* scenarios that may fail once in one call */
#define JOBS         8u
#define JOBS_MOST    64u
#define FULL_COVER   200u /* scenarios that must reach everything */
#define SMALL_BYTES  (3ull << 20)
#define SILENCE_MS   400u /* of every third: the dead are told while it runs, and writers fence */

/* What a seed chooses. */
struct plan {
    bool is_3fs;
    enum sim_fault kinds[3];
    uint32_t nkinds;
    uint64_t capacity; /* of the root; 0 = none is set */
    uint64_t fs_bytes; /* of the file system */
};

/* What a scenario with room that ends must reach. */
enum reach { REACH_EVICT, REACH_COLLECT, REACH_CARRY, REACH_ENOSPC, REACH_KINDS };
static const char *const reach_names[REACH_KINDS] = {"evicted", "collected", "carried over",
                                                     "no space"};

struct totals {
    sim_cover cover;
    uint64_t hits, stored, matched, opened, checks, bounded, ops, stale, silent, fences;
    uint64_t scenarios[2], reached[2][REACH_KINDS], times[2][REACH_KINDS]; /* [with faults] */
};

static struct totals *totals; /* shared with the children */
static bool lenient;

/* What no delay explains. */
static bool is_grave(const char *wrong)
{
    static const char *const signs[] = {"wrong bytes", "nobody put", "memory", "tripped"};
    uint32_t i;

    for (i = 0; i < ARRAY_LEN(signs); i++) {
        if (strstr(wrong, signs[i]))
            return true;
    }
    return false;
}

static bool is_event(enum sim_fault kind)
{
    return kind >= SIM_KILL;
}

/* Whether stores may hear ENOSPC: then they evict at once. */
static bool may_fill(enum sim_fault kind)
{
    return kind == SIM_ENOSPC || kind == SIM_WRITE_ERROR || kind == SIM_SYNC_ERROR ||
           kind == SIM_ALLOC_ERROR || kind == SIM_OPEN_ERROR;
}

/* One that is not among them yet. */
static enum sim_fault another_kind(struct world *w, const struct plan *p, uint32_t have)
{
    enum sim_fault kind;
    uint32_t i;

    do {
        kind = (enum sim_fault)world_random(w, SIM_FAULT_KINDS);
        for (i = 0; i < have && p->kinds[i] != kind; i++)
            ;
    } while (i < have);
    return kind;
}

static struct plan make_plan(struct world *w, uint64_t seed)
{
    bool quiet = seed % 8 == 4;
    struct plan p = {.is_3fs = quiet ? seed / 16 % 2 : seed % 2, .nkinds = quiet ? 0 : 3};
    uint32_t i;

    for (i = 0; i < p.nkinds; i++)
        p.kinds[i] = another_kind(w, &p, i);
    if (quiet && seed / 8 % 2)
        p.fs_bytes = SMALL_BYTES;
    else if (quiet || seed % 8 == 0 || seed % 8 == 6)
        p.capacity = 2 << 20;
    return p;
}

static void faults_on(struct world *w, const struct plan *p)
{
    uint32_t i;

    for (i = 0; i < p->nkinds; i++) {
        if (!is_event(p->kinds[i]))
            simfs_rate(w->fs, p->kinds[i],
                       p->kinds[i] == SIM_REORDER ? 4000
                       : p->kinds[i] == SIM_LATE  ? 40 + (uint32_t)world_random(w, 60)
                                                  : 50 + (uint32_t)world_random(w, 400));
    }
}

/* ---- Events ---- */

static void event_kill(struct world *w)
{
    uint32_t i = (uint32_t)world_random(w, STORES);

    if (!w->stores[i].c)
        return;
    if (world_random(w, 2)) {
        world_say(w, "kill store %u", i);
        simfs_kill(w->fs, w->stores[i].process);
    } else { /* somebody, in the middle of something */
        simfs_arm(w->fs, SIM_KILL, 1 + world_random(w, 60), false);
    }
}

static void event_power(struct world *w)
{
    world_say(w, "power cut");
    simfs_power_cut(w->fs);
    op_poll(w); /* what was reported before */
    doubt_power(w);
}

static void event_hang(struct world *w)
{
    world_say(w, "hang");
    simfs_hang(w->fs, (uint32_t)world_random(w, 2), (100 + world_random(w, 200)) * NS_PER_MS);
}

/* A store whose daemon died has nothing left to work with: it is opened anew. */
static void event_daemon(struct world *w)
{
    uint32_t host = (uint32_t)world_random(w, 2), i;

    world_say(w, "daemon of host %u dies", host);
    simfs_daemon_dies(w->fs, host);
    for (i = 0; i < 4; i++)
        (void)op_get(w, (uint32_t)world_random(w, STORES), (uint32_t)world_random(w, KEYS - 4), 3,
                     false);
    op_drain(w);
    simfs_daemon_returns(w->fs, host);
    for (i = 0; i < STORES; i++) {
        if (w->stores[i].host == host)
            store_close(w, i);
    }
}

static void event_rot(struct world *w)
{
    static const char *const where[] = {".seg", ".seg", ".toc", ".head", "space.json"};
    bool swapped;

    doubt_all(w);
    swapped = world_random(w, 2) && damage_swap_keys(w);
    if (!swapped)
        (void)damage_flip(w, where[world_random(w, ARRAY_LEN(where))]);
    world_say(w, "rot%s", swapped ? ": two keys change places" : "");
    doubt_all(w);
}

static void event_space(struct world *w)
{
    uint64_t used = simfs_used(w->fs), room = world_random(w, 3) << 18;

    world_say(w, "a stranger leaves %llu bytes", (unsigned long long)room);
    if (world_random(w, 3) == 0) {
        simfs_stranger(w->fs, 0);
        simfs_capacity(w->fs, 0);
    } else {
        simfs_capacity(w->fs, 64ull << 20);
        simfs_stranger(w->fs, (64ull << 20) - min_u64(64ull << 20, used + room));
    }
}

static void event(struct world *w, enum sim_fault kind)
{
    switch (kind) {
    case SIM_KILL:
        event_kill(w);
        break;
    case SIM_POWER_CUT:
        event_power(w);
        break;
    case SIM_HANG:
        event_hang(w);
        break;
    case SIM_DAEMON_DEATH:
        event_daemon(w);
        break;
    case SIM_ROT:
        event_rot(w);
        break;
    case SIM_ENOSPC:
        event_space(w);
        break;
    default:
        break;
    }
}

/* ---- Steps ---- */

/* False: no operation of a store began. */
static bool step(struct world *w)
{
    uint32_t store = (uint32_t)world_random(w, STORES);
    uint32_t blocks = 1 + (uint32_t)world_random(w, RUN_MAX);
    /* Some of it is used again and again: that is what eviction carries over. */
    uint32_t chain = world_random(w, 3) ? (uint32_t)world_random(w, CHAINS) : 0;
    uint32_t key = chain * CHAIN + (uint32_t)world_random(w, CHAIN - RUN_MAX + 1);
    uint32_t what = (uint32_t)world_random(w, 100);

    if (what >= 93 && what < 97)
        simfs_advance(w->fs, (1 + world_random(w, 40)) * SIM_S);
    else if (what >= 97 && what < 99)
        op_drain(w);
    if (!w->stores[store].c || (what >= 93 && what < 99))
        return false;
    if (what < 30)
        return op_put(w, store, key, blocks);
    if (what < 50)
        return op_get(w, store, key, blocks, false);
    if (what < 60)
        return op_get(w, store, key, blocks, true);
    if (what < 72)
        op_match(w, store, key / CHAIN * CHAIN, CHAIN);
    else if (what < 76)
        op_touch(w, store, key, blocks);
    else if (what < 80)
        op_delete(w, store, key, 1 + blocks / 3);
    else if (what < 88)
        (void)op_refresh(w, store, false);
    else if (what < 93)
        (void)op_flush(w, store);
    else
        store_close(w, store);
    return true;
}

/* Less capacity for a moment: of what was just used some has to be carried over. */
static void squeeze(struct world *w)
{
    uint32_t i = (uint32_t)world_random(w, STORES), chain;
    uint64_t until = clock_ns() + NS_PER_S, carried;
    cistern *c = w->stores[i].c;
    int rc;

    if (!c)
        return;
    op_drain(w);
    for (chain = 0; chain < CHAINS; chain++)
        op_touch(w, i, chain * CHAIN, CHAIN);
    carried = store_metric(c, "carried_blocks");
    rc = cistern_set_capacity(c, w->capacity / 4 * 3);
    world_say(w, "squeeze store %u: %d", i, rc);
    while (store_metric(c, "carried_blocks") == carried && clock_ns() < until)
        (void)usleep(1000);
    if (cistern_set_capacity(c, w->capacity))
        world_wrong(w, "the capacity cannot be changed on storage that works: %s",
                    cistern_error_text());
}

/* Stores that were killed or closed come back. */
static void revive(struct world *w)
{
    uint32_t i;

    for (i = 0; i < STORES; i++) {
        if (w->stores[i].c && simfs_killed(w->fs, w->stores[i].process))
            store_close(w, i);
        if (!w->stores[i].c && world_random(w, 3) == 0)
            (void)store_open(w, i, false);
    }
}

static void add(uint64_t *sum, uint64_t n)
{
    (void)__atomic_fetch_add(sum, n, __ATOMIC_RELAXED);
}

/* Of this process, to those of all. */
static void add_totals(const struct world *w, const struct plan *p, uint32_t begun)
{
    uint64_t times[REACH_KINDS] = {w->evictions, w->collected, w->carried, 0};
    uint32_t faults = p->nkinds != 0, op, kind;

    for (op = 0; op < OP_KINDS; op++) {
        times[REACH_ENOSPC] += (*sim_coverage)[op][SIM_ENOSPC];
        for (kind = 0; kind < SIM_FAULT_KINDS; kind++)
            add(&totals->cover[op][kind], (*sim_coverage)[op][kind]);
    }
    add(&totals->scenarios[faults], 1);
    for (kind = 0; kind < REACH_KINDS; kind++) {
        add(&totals->reached[faults][kind], times[kind] != 0);
        add(&totals->times[faults][kind], times[kind]);
    }
    add(&totals->hits, w->hits);
    add(&totals->stored, w->stored);
    add(&totals->matched, w->matched);
    add(&totals->opened, w->opened);
    add(&totals->checks, w->checks);
    add(&totals->bounded, w->bounded);
    add(&totals->stale, w->stale);
    add(&totals->silent, w->silent);
    add(&totals->fences, w->fences);
    add(&totals->ops, begun);
}

/* As many steps as there are, more where stores were closed or busy, up to a checkpoint. */
static bool goes_on(const struct world *w, uint32_t n, uint32_t begun)
{
    return !w->wrong[0] && (n <= STEPS || begun < OPS_LEAST || (n - 1) % CHECK_EACH != 0);
}

static int run(uint64_t seed, int verbose)
{
    static struct world w;
    struct sim_options o = {.seed = seed, .factor = 50, .late_ns = 90 * NS_PER_MS};
    struct plan p;
    uint32_t i, n, begun = 0;

    (void)pace_start(LIMIT_S * NS_PER_S);
    w.random = seed ^ 0x9af1a;
    w.verbose = verbose;
    w.lenient = lenient;
    w.silence_ms = seed % 3 == 0 ? SILENCE_MS : 0;
    p = make_plan(&w, seed);
    o.manners = p.is_3fs ? sim_manners_3fs : sim_manners_local;
    world_init(&w, seed, &o, p.capacity);
    world_say(&w, "seed %llu: %s%s%s", (unsigned long long)seed, p.is_3fs ? "3FS" : "local",
              p.capacity ? ", bounded" : "", p.fs_bytes ? ", small" : "");
    w.watch_grace = !p.fs_bytes;
    if (!p.nkinds) /* time to carry something over on a busy machine */
        w.grace_ns = 200 * NS_PER_MS;
    for (i = 0; i < p.nkinds; i++) {
        w.watch_grace &= !may_fill(p.kinds[i]);
        world_say(&w, "  %s", sim_fault_names[p.kinds[i]]);
    }
    for (i = 0; i < STORES; i++)
        (void)store_open(&w, i, true);
    faults_on(&w, &p);
    simfs_capacity(w.fs, p.fs_bytes);
    for (n = 1; goes_on(&w, n, begun); n++) {
        begun += step(&w);
        op_poll(&w);
        revive(&w);
        if (n == STEPS / 2) /* at least one restart in each */
            store_close(&w, (uint32_t)world_random(&w, STORES));
        if (w.capacity && !p.nkinds && n % SQUEEZE_EACH == 0)
            squeeze(&w);
        for (i = 0; i < p.nkinds; i++) {
            if (is_event(p.kinds[i]) && world_random(&w, 60) == 0)
                event(&w, p.kinds[i]);
        }
        if (world_random(&w, 4) == 0)
            (void)usleep(200);
        check_step(&w);
        if (n % CHECK_EACH == 0 && !w.wrong[0]) {
            simfs_stranger(w.fs, 0);
            simfs_capacity(w.fs, 0);
            check_all(&w);
            faults_on(&w, &p);
            simfs_capacity(w.fs, p.fs_bytes);
        }
    }
    if (!w.wrong[0])
        world_end(&w);
    check_step(&w);
    add_totals(&w, &p, begun);
    if (w.wrong[0])
        printf("seed %llu: step %u: %s\n", (unsigned long long)seed, n, w.wrong);
    (void)fflush(stdout);
    return w.wrong[0] == 0 ? 0 : is_grave(w.wrong) ? GRAVE : 1;
}

/* ---- Many ---- */

static pid_t begin(uint64_t seed)
{
    pid_t pid;

    (void)fflush(stdout); /* else the child prints it too */
    pid = fork();
    if (pid == 0) {
        _exit(run(seed, 0));
    }
    return pid;
}

static bool failed(uint64_t seed, int status)
{
    if (WIFSIGNALED(status))
        printf("seed %llu: %s\n", (unsigned long long)seed,
               WTERMSIG(status) == SIGALRM ? "no end" : strsignal(WTERMSIG(status)));
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

/* A failure that may be the machine's: true if it does not come again. */
static bool passes_again(uint64_t seed, int status, uint32_t times)
{
    uint32_t i;

    if (!times || !WIFEXITED(status) || WEXITSTATUS(status) == GRAVE)
        return false;
    for (i = 0; i < times; i++) {
        pid_t pid = begin(seed);

        if (pid < 0 || waitpid(pid, &status, 0) != pid || failed(seed, status))
            return false;
    }
    printf("seed %llu: did not fail again in %u runs\n", (unsigned long long)seed, times);
    return true;
}

static void print_coverage(void)
{
    uint32_t op, kind;

    printf("\nhow often each fault was met while an operation was the last begun\n%-12s", "");
    for (kind = 0; kind < SIM_FAULT_KINDS; kind++)
        printf(" %s", sim_fault_names[kind]);
    printf("\n");
    for (op = 0; op < OP_KINDS; op++) {
        printf("%-12s", world_op_names[op]);
        for (kind = 0; kind < SIM_FAULT_KINDS; kind++)
            printf(" %*llu", (int)strlen(sim_fault_names[kind]),
                   (unsigned long long)totals->cover[op][kind]);
        printf("\n");
    }
    printf("\n%llu operations, %llu parts hit, %llu blocks stored, %llu matched, %llu opens, "
           "%llu checkpoints, %llu steps within a bound after an eviction, %llu stale stores, "
           "%llu writers found silent, %llu fences\n",
           (unsigned long long)totals->ops, (unsigned long long)totals->hits,
           (unsigned long long)totals->stored, (unsigned long long)totals->matched,
           (unsigned long long)totals->opened, (unsigned long long)totals->checks,
           (unsigned long long)totals->bounded, (unsigned long long)totals->stale,
           (unsigned long long)totals->silent, (unsigned long long)totals->fences);
}

/* In how many scenarios, and how often; false: some of it in none that had no faults. */
static bool print_reached(void)
{
    bool all = true;
    uint32_t faults, kind;

    for (faults = 0; faults < 2; faults++) {
        printf("%s faults, %llu scenarios:", faults ? "with" : "without",
               (unsigned long long)totals->scenarios[faults]);
        for (kind = 0; kind < REACH_KINDS; kind++) {
            printf("%s %s in %llu (%llu times)", kind ? "," : "", reach_names[kind],
                   (unsigned long long)totals->reached[faults][kind],
                   (unsigned long long)totals->times[faults][kind]);
            all &= faults || totals->reached[faults][kind];
        }
        printf("\n");
    }
    return all;
}

struct batch {
    struct {
        pid_t pid;
        uint64_t seed;
    } child[JOBS_MOST];
    uint32_t jobs, begun, running, bad, unsure, again;
};

static void begin_some(struct batch *b, uint64_t from, uint32_t count)
{
    uint32_t i;

    for (i = 0; i < b->jobs && b->begun < count; i++) {
        if (b->child[i].pid)
            continue;
        b->child[i].seed = from + b->begun++;
        b->child[i].pid = begin(b->child[i].seed);
        b->running++;
    }
}

static void take_one(struct batch *b)
{
    int status;
    pid_t pid = wait(&status);
    uint32_t i;

    for (i = 0; i < b->jobs && (pid < 0 || b->child[i].pid != pid); i++)
        ;
    if (i == b->jobs)
        return;
    b->child[i].pid = 0;
    b->running--;
    if (!failed(b->child[i].seed, status))
        return;
    if (b->unsure < UNSURE_MOST && passes_again(b->child[i].seed, status, b->again))
        b->unsure++;
    else
        b->bad++;
}

static double seconds_since(uint64_t ns)
{
    return (double)(clock_ns() - ns) / (double)NS_PER_S;
}

static int run_many(uint64_t from, uint32_t count, uint32_t jobs, bool stop, uint32_t again)
{
    struct batch b = {.jobs = jobs, .again = again};
    uint64_t start = clock_ns();
    struct rusage used;
    double took, cpu;

    printf("seeds %llu to %llu\n", (unsigned long long)from,
           (unsigned long long)(from + count - 1));
    (void)fflush(stdout);
    while (b.begun < count || b.running) {
        if (!(stop && b.bad))
            begin_some(&b, from, count);
        if (!b.running)
            break;
        take_one(&b);
    }
    took = seconds_since(start);
    (void)getrusage(RUSAGE_CHILDREN, &used);
    cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
          (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    if (!stop) {
        print_coverage();
        if (!print_reached() && count >= FULL_COVER) {
            printf("scenarios without faults did not reach all of these\n");
            b.bad++;
        }
        if (count >= FULL_COVER && !(totals->silent && totals->fences)) {
            printf("nobody was found silent, or nobody fenced\n");
            b.bad++;
        }
    }
    printf("%.0f s, %.1f scenarios a second, %u at a time, %.2f s of processor each; %u run again "
           "for a judgement of room, time or presence\n",
           took, b.begun / took, jobs, cpu / b.begun, b.unsure);
    printf("\n%u passed, %u failed, %u skipped\n",
           b.begun - (uint32_t)min_u64(b.bad + b.unsure, b.begun), b.bad, b.unsure);
    return b.bad != 0;
}

int main(int argc, char **argv)
{
    uint64_t seed = 0, from = (uint64_t)time(NULL) * 1000 % 1000000007;
    uint32_t count = 0, again = 0, jobs = JOBS;
    bool one = false, stop = false;
    int i, verbose = 0;

    totals = mmap(NULL, sizeof *totals, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (totals == MAP_FAILED)
        return 2;
    for (i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";

        if (strcmp(argv[i], "--seed") == 0) {
            seed = strtoull(value, NULL, 10);
            one = true;
            i++;
        } else if (strcmp(argv[i], "--seeds") == 0) {
            count = (uint32_t)strtoul(value, NULL, 10);
            i++;
        } else if (strcmp(argv[i], "--from") == 0) {
            from = strtoull(value, NULL, 10);
            i++;
        } else if (strcmp(argv[i], "--jobs") == 0) {
            jobs = (uint32_t)min_u64(JOBS_MOST, max_u64(1, strtoul(value, NULL, 10)));
            i++;
        } else if (strcmp(argv[i], "--again") == 0) {
            again = (uint32_t)strtoul(value, NULL, 10);
            i++;
        } else if (strcmp(argv[i], "--lenient") == 0) {
            lenient = true;
        } else if (strcmp(argv[i], "--stop") == 0) {
            stop = true;
        } else if (strncmp(argv[i], "-v", 2) == 0) {
            verbose = (int)strlen(argv[i]) - 1;
        } else {
            fprintf(stderr, "scenario: %s: see the top of tests/sim/scenario.c\n", argv[i]);
            return 2;
        }
    }
    if (one)
        return run(seed, verbose);
    return run_many(from, count ? count : 20, jobs, stop, again);
}
