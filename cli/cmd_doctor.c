/*
 * cmd_doctor.c - runs the checks of doctor.h and prints what they found.
 *
 * Each check runs in a child with a limit of time: a dead FUSE mount keeps a process in the kernel
 * for ever, and what the checks load and open stays apart. A child that does not answer, or does
 * not end when it has, is killed and, where even that does not help, left behind. Storage that kept
 * one check is not asked by the others, so that a dead mount costs the limit of one.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "args.h"
#include "cli.h"
#include "doctor.h"
#include "json_out.h"

#define GIB       (UINT64_C(1) << 30)
#define LIMIT_MS  10000
#define MOST_MS   600000
#define AFTER_END 200 /* ms that a killed child gets to be gone */

const struct doctor_check doctor_checks[] = {
    {"switches", "the second tier is switched on", NEEDS_SYSTEM, check_switches},
    {"mount", "the mount is there", NEEDS_STORAGE, check_mount},
    {"provider", "the mount is what the provider needs", NEEDS_STORAGE, check_provider},
    {"cluster", "the storage is that of this network cluster", NEEDS_SETTINGS, check_cluster},
    {"client", "the 3FS client library", NEEDS_STORAGE, check_client},
    {"propagation", "mounts of the host reach this container", NEEDS_SETTINGS, check_propagation},
    {"root", "the root directory can be written", NEEDS_STORAGE, check_root},
    {"ring", "a write and a read through a ring", NEEDS_STORAGE, check_ring},
    {"direct", "O_DIRECT", NEEDS_STORAGE, check_direct},
    {"clock", "the clock agrees with the storage", NEEDS_STORAGE, check_clock},
    {"room", "free space", NEEDS_STORAGE, check_room},
    {"writers", "writers and what they left", NEEDS_STORAGE, check_writers},
    {"shm-size", "/dev/shm is large enough", NEEDS_SETTINGS, check_shm_size},
    {"shm-free", "/dev/shm has room", NEEDS_SETTINGS, check_shm_free},
    {"shm-pages", "/dev/shm has large pages", NEEDS_SYSTEM, check_shm_pages},
    {"shm-stale", "no staging of dead processes", NEEDS_SYSTEM, check_shm_stale},
    {"memory", "the memory limit is not below /dev/shm", NEEDS_SETTINGS, check_memory},
    {"memlock", "memory can be pinned", NEEDS_SETTINGS, check_memlock},
    {"files", "open files", NEEDS_SETTINGS, check_files},
    {"aio", "kernel AIO is not used up", NEEDS_SYSTEM, check_aio},
    {"io-uring", "io_uring is allowed", NEEDS_SYSTEM, check_uring},
    {"storage-node", "this is no storage node", NEEDS_SYSTEM, check_storage_node},
    {"rdma", "RDMA devices", NEEDS_SETTINGS, check_rdma},
    {"cuda", "the CUDA driver", NEEDS_SYSTEM, check_cuda},
    {NULL, NULL, NEEDS_SYSTEM, NULL},
};

static const char *const words[] = {"pass", "warn", "FAIL", "unknown"};
static const char *const json_words[] = {"pass", "warn", "fail", "unknown"};

struct asked {
    const char *only, *sysroot, *mount, *root;
    bool json, quiet, strict, list;
    uint64_t limit_ms;
    struct doctor d;
    const char *kept; /* the check that storage gave no answer to */
};

/* ---- One check ---- */

static uint64_t now_ms(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void child(const struct doctor_check *c, const struct doctor *d, int fd)
{
    struct doctor_finding f = {.state = DOCTOR_UNKNOWN};
    size_t sent = 0;
    ssize_t n;

    c->run(d, &f);
    while (sent < sizeof(f) && (n = write(fd, (const char *)&f + sent, sizeof(f) - sent)) > 0)
        sent += (size_t)n;
    _exit(0);
}

/* True: the whole finding came in time. */
static bool receive(int fd, uint64_t until, struct doctor_finding *f)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    uint64_t now;
    size_t got = 0;
    ssize_t n;

    while (got < sizeof(*f)) {
        now = now_ms();
        if (now >= until || poll(&p, 1, (int)(until - now)) == 0)
            return false;
        n = read(fd, (char *)f + got, sizeof(*f) - got);
        if (n == 0 || (n < 0 && errno != EINTR))
            return false;
        got += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static bool is_gone(pid_t pid)
{
    uint64_t until = now_ms() + AFTER_END;

    while (waitpid(pid, NULL, WNOHANG) == 0) {
        if (now_ms() >= until)
            return false;
        (void)poll(NULL, 0, 10);
    }
    return true;
}

/* One that has answered may still have threads that wait for a dead mount. */
static void reap(pid_t pid, bool in_time)
{
    if (in_time && is_gone(pid))
        return;
    (void)kill(pid, SIGKILL);
    (void)is_gone(pid);
}

static void no_answer(const struct doctor_check *c, struct asked *a, struct doctor_finding *f)
{
    double seconds = (double)a->limit_ms / 1000;

    if (c->needs == NEEDS_STORAGE) {
        a->kept = c->id;
        doctor_say(f, DOCTOR_FAIL, "no answer within %g s", seconds);
        doctor_mend(f, "the mount hangs: is hf3fs_fuse_main alive? umount -l %s and mount it anew",
                    a->d.mount);
    } else {
        doctor_say(f, DOCTOR_UNKNOWN, "took longer than %g s", seconds);
        doctor_mend(f, "give it more time: --timeout %llu",
                    (unsigned long long)(a->limit_ms < MOST_MS / 10 ? a->limit_ms * 10 : MOST_MS));
    }
}

static void run_child(const struct doctor_check *c, struct asked *a, struct doctor_finding *f)
{
    uint64_t until = now_ms() + a->limit_ms;
    int fds[2];
    pid_t pid;
    bool ok;

    if (pipe(fds) != 0) {
        doctor_say(f, DOCTOR_UNKNOWN, "no pipe: %s", strerror(errno));
        return;
    }
    (void)fflush(stdout);
    pid = fork();
    if (pid == 0) {
        (void)close(fds[0]);
        child(c, &a->d, fds[1]);
    }
    (void)close(fds[1]);
    ok = pid > 0 && receive(fds[0], until, f);
    (void)close(fds[0]);
    if (pid < 0) {
        doctor_say(f, DOCTOR_UNKNOWN, "no process: %s", strerror(errno));
        return;
    }
    if (!ok && now_ms() >= until)
        no_answer(c, a, f);
    else if (!ok)
        doctor_say(f, DOCTOR_UNKNOWN, "the check died");
    reap(pid, ok);
}

static void run_one(const struct doctor_check *c, struct asked *a, struct doctor_finding *f)
{
    memset(f, 0, sizeof(*f));
    if (c->needs != NEEDS_SYSTEM && a->d.options_rc)
        doctor_say(f, DOCTOR_UNKNOWN, "not looked at: the settings are wrong, see switches");
    else if (c->needs == NEEDS_STORAGE && a->kept)
        doctor_say(f, DOCTOR_UNKNOWN, "not looked at: the mount gave no answer, see %s", a->kept);
    else
        run_child(c, a, f);
}

/* ---- All of them ---- */

static bool is_asked(const char *only, const char *id)
{
    size_t n = strlen(id);

    for (; only; only = strchr(only, ',') ? strchr(only, ',') + 1 : NULL) {
        if (strncmp(only, id, n) == 0 && (only[n] == ',' || only[n] == '\0'))
            return true;
    }
    return false;
}

static int check_only(const char *only)
{
    char word[64];
    const char *at = only;
    size_t i, n;

    for (; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        n = strcspn(at, ",");
        (void)snprintf(word, sizeof(word), "%.*s", (int)n, at);
        for (i = 0; doctor_checks[i].id && strcmp(doctor_checks[i].id, word) != 0; i++)
            ;
        if (!doctor_checks[i].id)
            return cli_fail(CLI_USAGE,
                            "--only %s: no such check; `cistern doctor --list` names them", word);
    }
    return CLI_OK;
}

static json_t *finding_json(const struct doctor_check *c, const struct doctor_finding *f)
{
    json_t *o = json_object();

    json_out_text(o, "id", c->id);
    json_out_text(o, "title", c->title);
    json_out_text(o, "state", json_words[f->state]);
    json_out_text(o, "cause", f->cause);
    if (f->remedy[0])
        json_out_text(o, "remedy", f->remedy);
    return o;
}

static void print_finding(const struct doctor_check *c, const struct doctor_finding *f)
{
    printf("%-8s %-13s %s\n", words[f->state], c->id, f->cause);
    if (f->remedy[0])
        printf("%22s-> %s\n", "", f->remedy);
}

static int run_all(struct asked *a)
{
    uint64_t count[4] = {0};
    json_t *top = a->json ? json_object() : NULL, *list = a->json ? json_array() : NULL;
    struct doctor_finding f;
    bool bad;
    size_t i;

    for (i = 0; doctor_checks[i].id; i++) {
        if (a->only && !is_asked(a->only, doctor_checks[i].id))
            continue;
        run_one(&doctor_checks[i], a, &f);
        count[f.state & 3]++;
        if (a->json)
            (void)json_array_append_new(list, finding_json(&doctor_checks[i], &f));
        else if (!a->quiet || f.state != DOCTOR_PASS)
            print_finding(&doctor_checks[i], &f);
    }
    bad = count[DOCTOR_FAIL] || (a->strict && (count[DOCTOR_WARN] || count[DOCTOR_UNKNOWN]));
    if (a->json) {
        for (i = 0; i < 4; i++)
            json_out_number(top, json_words[i], count[i]);
        (void)json_object_set_new(top, "checks", list);
        if (json_out_print(top) != CLI_OK)
            return CLI_IO;
    } else if (!a->quiet) {
        printf("\n%llu pass, %llu warn, %llu fail, %llu unknown\n", (unsigned long long)count[0],
               (unsigned long long)count[1], (unsigned long long)count[2],
               (unsigned long long)count[3]);
    }
    return bad ? CLI_FINDINGS : CLI_OK;
}

/* What the environment says, and what was given. */
static void take_options(struct asked *a)
{
    struct doctor *d = &a->d;
    size_t n;

    d->options.size = sizeof(d->options);
    d->options_rc = cistern_options_from_env(&d->options);
    (void)snprintf(d->options_text, sizeof(d->options_text), "%s",
                   d->options_rc ? cistern_error_text() : "");
    d->sysroot = a->sysroot ? a->sysroot : "";
    if (a->mount)
        d->options.mount = a->mount;
    if (a->root)
        d->options.root = a->root;
    doctor_take_cluster(d);
    if (!d->options.mount)
        d->options.mount = "/3fs/stage/3fs/";
    if (!d->options.root)
        d->options.root = "rtp_llm/";
    (void)snprintf(d->mount, sizeof(d->mount), "%s", d->options.mount);
    for (n = strlen(d->mount); n > 1 && d->mount[n - 1] == '/'; n--)
        d->mount[n - 1] = '\0';
    (void)snprintf(d->root, sizeof(d->root), "%.*s/%.*s", PATH_MAX / 2, d->mount, PATH_MAX / 2 - 2,
                   d->options.root);
    for (n = strlen(d->root); n > 1 && d->root[n - 1] == '/'; n--)
        d->root[n - 1] = '\0';
    d->read_staging = d->options.read_iov_bytes ? d->options.read_iov_bytes : 4 * GIB;
    d->write_staging = d->options.write_iov_bytes ? d->options.write_iov_bytes : 4 * GIB;
}

static int list_checks(void)
{
    size_t i;

    for (i = 0; doctor_checks[i].id; i++)
        printf("%-13s %s\n", doctor_checks[i].id, doctor_checks[i].title);
    return CLI_OK;
}

int cmd_doctor(int argc, char **argv)
{
    static struct asked a;
    const struct arg args[] = {
        {"mount", "DIR", ARG_STRING, &a.mount, 0, 0,
         "mount directory (CISTERN_MOUNT, else of the cluster, else /3fs/stage/3fs/)"},
        {"root", "DIR", ARG_STRING, &a.root, 0, 0,
         "directory below the mount (CISTERN_ROOT, else rtp_llm/)"},
        {"tp", "N", ARG_NUMBER, &a.d.ranks, 1, 256,
         "tensor-parallel ranks that this host or container runs (default 1)"},
        {"only", "ID,ID", ARG_STRING, &a.only, 0, 0, "these checks alone"},
        {"list", NULL, ARG_FLAG, &a.list, 0, 0, "name the checks"},
        {"clean", NULL, ARG_FLAG, &a.d.clean, 0, 0,
         "remove staging of dead processes from /dev/shm"},
        {"quiet", NULL, ARG_FLAG, &a.quiet, 0, 0, "print what did not pass; for probes"},
        {"strict", NULL, ARG_FLAG, &a.strict, 0, 0, "warnings and unknowns count as failures"},
        {"timeout", "MS", ARG_NUMBER, &a.limit_ms, 100, MOST_MS, "for one check (default 10000)"},
        {"sysroot", "DIR", ARG_STRING, &a.sysroot, 0, 0,
         "look at /proc, /sys, /dev and /run below this directory"},
        {"json", NULL, ARG_FLAG, &a.json, 0, 0, "findings as JSON"},
    };
    const struct arg_page page = {
        .usage = "cistern doctor [options]",
        .about =
            "Checks whether this machine or container can keep a KV cache on its mount, and says "
            "what\nwould mend what it cannot. The settings are those of the environment.\n",
        .args = args,
        .nargs = sizeof(args) / sizeof(args[0]),
        .tail =
            "exit status: 0 nothing failed, 1 something did, 3 a variable is wrong and switches is "
            "not asked\n",
    };
    int n, r;

    a.limit_ms = LIMIT_MS;
    a.d.ranks = 1;
    r = args_parse(&page, argc, argv, 0, &n);
    if (r != ARG_GO)
        return r;
    if (a.list)
        return list_checks();
    if (a.only && (r = check_only(a.only)) != CLI_OK)
        return r;
    take_options(&a);
    /* One bad variable leaves all behind it unread. */
    if (a.d.options_rc && a.only && !is_asked(a.only, "switches"))
        return cli_fail(CLI_ENVIRONMENT, "%s", a.d.options_text);
    return run_all(&a);
}
