/*
 * cmd_metrics.c - the numbers of the handles of this host, for Prometheus: once to stdout, over
 * HTTP, or into a file for node_exporter's textfile collector.
 *
 * A file is replaced by rename, so that whoever reads it has the whole of one time.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "args.h"
#include "cli.h"
#include "json_out.h"
#include "metrics.h"

#define GUESS (256u << 10)

char *metrics_text(uint32_t pid, size_t *len, int *code)
{
    struct cistern_process_query q = {.size = sizeof(q), .pid = pid};
    size_t room = GUESS;
    char *buf = NULL, *p;
    int64_t n;

    for (;;) {
        p = realloc(buf, room);
        if (p == NULL) {
            free(buf);
            *code = cli_fail(CLI_ENVIRONMENT, "out of memory");
            return NULL;
        }
        buf = p;
        n = cistern_process_text(&q, buf, room);
        if (n < 0) {
            free(buf);
            *code = cli_fail_lib((int)n, "the statistics pages");
            return NULL;
        }
        if ((size_t)n < room) {
            *len = (size_t)n;
            return buf;
        }
        room = (size_t)n + GUESS;
    }
}

/* ---- Into a file ---- */

static int write_all(int fd, const char *text, size_t len)
{
    size_t done = 0;
    ssize_t n;

    while (done < len) {
        n = write(fd, text + done, len - done);
        if (n < 0 && errno != EINTR)
            return -errno;
        done += n > 0 ? (size_t)n : 0;
    }
    return fchmod(fd, 0644) == 0 ? 0 : -errno;
}

static int replace_file(const char *path, const char *text, size_t len)
{
    char temporary[PATH_MAX];
    int fd, rc;

    if (snprintf(temporary, sizeof(temporary), "%s.%ld.tmp", path, (long)getpid()) >=
        (int)sizeof(temporary))
        return cli_fail(CLI_USAGE, "--textfile %s: the name is too long", path);
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return cli_fail(CLI_ENVIRONMENT, "--textfile: %s cannot be made: %s", temporary,
                        strerror(errno));
    rc = write_all(fd, text, len);
    if (close(fd) != 0 && rc == 0)
        rc = -errno;
    if (rc == 0 && rename(temporary, path) != 0)
        rc = -errno;
    if (rc == 0)
        return CLI_OK;
    (void)unlink(temporary);
    return cli_fail(CLI_IO, "--textfile %s: %s", path, strerror(-rc));
}

static volatile sig_atomic_t stopped;

static void stop(int number)
{
    (void)number;
    stopped = 1;
}

static int keep_file(const char *path, uint32_t pid, uint64_t interval_s)
{
    struct sigaction sa = {.sa_handler = stop};
    size_t len;
    char *text;
    int code = CLI_OK;

    (void)sigaction(SIGINT, &sa, NULL);
    (void)sigaction(SIGTERM, &sa, NULL);
    do {
        text = metrics_text(pid, &len, &code);
        if (text == NULL)
            return code;
        code = replace_file(path, text, len);
        free(text);
        if (code == CLI_OK && interval_s && !stopped)
            (void)poll(NULL, 0, (int)(interval_s * 1000));
    } while (code == CLI_OK && interval_s && !stopped);
    return code;
}

/* ---- To stdout ---- */

static json_t *sample_json(const struct cistern_sample *s)
{
    json_t *o, *list = json_array();
    uint64_t count = 0;
    uint32_t i;

    if (s->kind != CISTERN_HISTOGRAM) {
        json_decref(list);
        return json_integer((json_int_t)s->value);
    }
    o = json_object();
    for (i = 0; i <= s->buckets; i++) {
        json_t *b = json_object();

        if (i < s->buckets)
            json_out_number(b, "le", s->bounds[i]);
        json_out_number(b, "count", s->counts[i]);
        json_array_append_new(list, b);
        count += s->counts[i];
    }
    json_out_number(o, "count", count);
    json_out_number(o, "sum", s->value);
    json_object_set_new(o, "buckets", list);
    return o;
}

static int add_json(void *arg, const struct cistern_process *p)
{
    json_t *o = json_object(), *numbers = json_object();
    uint32_t i;

    json_out_number(o, "pid", p->pid);
    json_out_number(o, "handle", p->handle);
    json_out_text(o, "mount", p->mount);
    json_out_text(o, "root", p->root);
    json_out_text(o, "space", p->space);
    json_out_text(o, "model", p->model);
    json_out_text(o, "provider", p->provider);
    json_out_text(o, "mode", p->mode);
    json_out_text(o, "version", p->version);
    json_out_number(o, "shard", p->shard);
    json_out_number(o, "shards", p->shards);
    json_out_real(o, "age_s", (double)p->age_ns / 1e9);
    json_object_set_new(o, "stale", json_boolean(p->stale));
    for (i = 0; i < p->nsamples; i++)
        json_object_set_new(numbers, p->samples[i].name, sample_json(&p->samples[i]));
    json_object_set_new(o, "metrics", numbers);
    json_array_append_new(arg, o);
    return 0;
}

static int print_json(uint32_t pid)
{
    struct cistern_process_query q = {.size = sizeof(q), .pid = pid};
    json_t *o = json_object(), *list = json_array();
    int r = cistern_process_list(&q, add_json, list);

    json_object_set_new(o, "handles", list);
    if (r >= 0)
        return json_out_print(o);
    json_decref(o);
    return cli_fail_lib(r, "the statistics pages");
}

static int print_text(uint32_t pid)
{
    size_t len;
    int code = CLI_OK;
    char *text = metrics_text(pid, &len, &code);

    if (text == NULL)
        return code;
    (void)fwrite(text, 1, len, stdout); /* main() looks whether stdout took it */
    free(text);
    return CLI_OK;
}

struct asked {
    const char *listen, *textfile;
    uint64_t pid, interval_s;
    bool json;
};

static int run(const struct asked *a)
{
    struct listener l;
    int r;

    if ((a->listen != NULL) + (a->textfile != NULL) + a->json > 1)
        return cli_fail(CLI_USAGE, "--listen, --textfile and --json are three ways; choose one");
    if (a->interval_s && a->textfile == NULL)
        return cli_fail(CLI_USAGE, "--interval goes with --textfile");
    if (a->textfile != NULL)
        return keep_file(a->textfile, (uint32_t)a->pid, a->interval_s);
    if (a->json)
        return print_json((uint32_t)a->pid);
    if (a->listen == NULL)
        return print_text((uint32_t)a->pid);
    r = listener_open(a->listen, &l);
    return r != CLI_OK ? r : metrics_serve(&l, (uint32_t)a->pid);
}

int cmd_metrics(int argc, char **argv)
{
    struct asked a = {0};
    const struct arg args[] = {
        {"listen", "[ADDR:]PORT", ARG_STRING, &a.listen, 0, 0,
         "serve /metrics over HTTP; the address is 127.0.0.1 unless given"},
        {"textfile", "FILE", ARG_STRING, &a.textfile, 0, 0,
         "write FILE, for the textfile collector of node_exporter"},
        {"interval", "SECONDS", ARG_NUMBER, &a.interval_s, 1, 86400,
         "with --textfile: again and again, until a signal"},
        {"pid", "PID", ARG_NUMBER, &a.pid, 1, UINT32_MAX, "only the handles of this process"},
        {"json", NULL, ARG_FLAG, &a.json, 0, 0, "one JSON object, histograms included"},
    };
    const struct arg_page page = {
        .usage = "cistern metrics [options]",
        .about = "Prints the numbers of all handles that processes of this host have open, as\n"
                 "Prometheus reads them, or serves them. docs/METRICS.md says what each one is.\n"
                 "Sees the processes of the same user; root sees all.\n",
        .args = args,
        .nargs = sizeof(args) / sizeof(args[0]),
        .tail = "example: cistern metrics --listen 9464\n"
                "         curl http://127.0.0.1:9464/metrics\n",
    };
    int words, r;

    r = args_parse(&page, argc, argv, 0, &words);
    return r == ARG_GO ? run(&a) : r;
}
