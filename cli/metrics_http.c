/*
 * metrics_http.c - HTTP by libmicrohttpd: GET and HEAD of /metrics and of the live page, nothing
 * else.
 *
 * One thread. The socket is bound here, so that what is wrong with an address is said in our words.
 * A connection carries one request and is closed after its answer, or when IDLE_S have passed
 * without a byte; at most CONNECTIONS are open, more wait in the kernel. What is no HTTP, or too
 * long, libmicrohttpd refuses by itself.
 */
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli.h"
#include "metrics.h"
#include "text.h"

#define CONNECTIONS   32
#define IDLE_S        10
#define REQUEST_BYTES ((size_t)8192) /* the headers of the answer included */
#define HOST_BYTES    256

/* With every answer. The page may use what is in it and ask its own server, nothing else. */
static const char *const headers[][2] = {
    {"X-Content-Type-Options", "nosniff"},
    {"X-Frame-Options", "DENY"},
    {"Referrer-Policy", "no-referrer"},
    {"Cache-Control", "no-store"},
    {"Content-Security-Policy",
     "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
     "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"},
    {"Connection", "close"},
};

static volatile sig_atomic_t stopped;

static void stop(int number)
{
    (void)number;
    stopped = 1;
}

/* ---- The socket ---- */

/* Takes "[ADDR:]PORT" apart; an address in brackets may hold colons. */
static bool split(const char *where, char host[HOST_BYTES], char port[8])
{
    const char *colon = strrchr(where, ':'), *p = colon ? colon + 1 : where;
    size_t n = colon ? (size_t)(colon - where) : 0;
    uint64_t number;

    if (!text_number_parse(p, 0, 65535, &number) || n >= HOST_BYTES || (colon && n == 0))
        return false;
    if (n && where[0] == '[') {
        if (where[n - 1] != ']' || n < 3)
            return false;
        where++;
        n -= 2;
    } else if (memchr(where, ':', n) != NULL) {
        return false;
    }
    snprintf(host, HOST_BYTES, "%.*s", (int)n, where);
    if (n == 0)
        snprintf(host, HOST_BYTES, "127.0.0.1");
    snprintf(port, 8, "%u", (unsigned)number);
    return true;
}

static int bind_one(const struct addrinfo *a)
{
    int one = 1, error;
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);

    if (fd < 0)
        return -errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, CONNECTIONS) == 0)
        return fd;
    error = errno;
    (void)close(fd);
    return -error;
}

/* The port may have been 0: whatever is free. */
static void name_listener(struct listener *l)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof(at);
    char host[HOST_BYTES], port[8];

    if (getsockname(l->fd, (struct sockaddr *)&at, &len) != 0 ||
        getnameinfo((struct sockaddr *)&at, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return;
    snprintf(l->name, sizeof(l->name), at.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

int listener_open(const char *where, struct listener *l)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list = NULL;
    char host[HOST_BYTES], port[8];
    int r;

    if (!split(where, host, port))
        return cli_fail(CLI_USAGE,
                        "--listen %s: PORT or ADDR:PORT is needed, such as 9464, 0.0.0.0:9464 or "
                        "[::1]:9464",
                        where);
    r = getaddrinfo(host, port, &hints, &list);
    if (r != 0 && strcmp(host, "localhost") == 0) /* also where no /etc/hosts says so */
        r = getaddrinfo("127.0.0.1", port, &hints, &list);
    if (r != 0)
        return cli_fail(CLI_ENVIRONMENT, "--listen %s: no such address: %s", where,
                        gai_strerror(r));
    l->fd = bind_one(list);
    freeaddrinfo(list);
    if (l->fd < 0)
        return cli_fail(
            CLI_ENVIRONMENT, "--listen %s: %s%s", where, strerror(-l->fd),
            l->fd == -EADDRINUSE ? "; another program has the port, `ss -ltnp` says which" : "");
    snprintf(l->name, sizeof(l->name), "%s", where);
    name_listener(l);
    return CLI_OK;
}

/* ---- Answers ---- */

/* MHD_NO, when memory is short, closes the connection. */
static enum MHD_Result answer(struct MHD_Connection *c, unsigned status, const char *type,
                              const char *body, size_t len, enum MHD_ResponseMemoryMode mode)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(len, (void *)body, mode);
    enum MHD_Result done = MHD_add_response_header(r, "Content-Type", type);
    size_t i;

    for (i = 0; done == MHD_YES && i < sizeof(headers) / sizeof(headers[0]); i++)
        done = MHD_add_response_header(r, headers[i][0], headers[i][1]);
    if (done == MHD_YES && status == MHD_HTTP_METHOD_NOT_ALLOWED)
        done = MHD_add_response_header(r, "Allow", "GET, HEAD");
    if (done == MHD_YES)
        done = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return done;
}

static enum MHD_Result answer_words(struct MHD_Connection *c, unsigned status, const char *words)
{
    return answer(c, status, "text/plain; charset=utf-8", words, strlen(words),
                  MHD_RESPMEM_PERSISTENT);
}

static enum MHD_Result answer_metrics(struct MHD_Connection *c, uint32_t pid)
{
    size_t len;
    int code;
    char *text = metrics_text(pid, &len, &code);

    if (text == NULL)
        return answer_words(c, MHD_HTTP_INTERNAL_SERVER_ERROR, "the numbers cannot be read\n");
    return answer(c, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", text, len,
                  MHD_RESPMEM_MUST_FREE);
}

/* The path comes without its query. */
static enum MHD_Result answer_request(void *pid, struct MHD_Connection *c, const char *path,
                                      const char *method, const char *version, const char *upload,
                                      size_t *upload_len, void **request)
{
    const char *page;
    size_t len;

    (void)version, (void)upload, (void)upload_len, (void)request;
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
        return answer_words(c, MHD_HTTP_METHOD_NOT_ALLOWED, "GET and HEAD only\n");
    if (strcmp(path, "/metrics") == 0)
        return answer_metrics(c, *(const uint32_t *)pid);
    page = strcmp(path, "/") == 0 ? live_page(&len) : NULL;
    if (page == NULL)
        return answer_words(c, MHD_HTTP_NOT_FOUND, "there is /metrics\n");
    return answer(c, MHD_HTTP_OK, "text/html; charset=utf-8", page, len, MHD_RESPMEM_PERSISTENT);
}

int metrics_serve(const struct listener *l, uint32_t pid)
{
    struct sigaction sa = {.sa_handler = stop};
    struct MHD_Daemon *d = MHD_start_daemon(
        MHD_USE_EPOLL, 0, NULL, NULL, answer_request, &pid, MHD_OPTION_LISTEN_SOCKET, l->fd,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, REQUEST_BYTES, MHD_OPTION_END);

    if (d == NULL)
        return cli_fail(CLI_ENVIRONMENT, "the HTTP server cannot start: %s", strerror(errno));
    (void)sigaction(SIGINT, &sa, NULL);
    (void)sigaction(SIGTERM, &sa, NULL);
    cli_note("http://%s/metrics", l->name);
    while (!stopped && MHD_run_wait(d, 500) == MHD_YES)
        ;
    MHD_stop_daemon(d); /* and the socket */
    return stopped ? CLI_OK : cli_fail(CLI_ENVIRONMENT, "the HTTP server ended");
}
