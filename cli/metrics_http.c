/*
 * metrics_http.c - a small HTTP server: GET and HEAD of /metrics and of the live page, nothing
 * else.
 *
 * One thread and one poll() loop. A connection carries one request of at most REQUEST_BYTES and is
 * closed after its answer, or when CONNECTION_MS have passed; at most CONNECTIONS are open, more
 * wait in the kernel. Of a request only the first line is looked at.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "metrics.h"
#include "text.h"

#define CONNECTIONS   32
#define CONNECTION_MS 10000
#define REQUEST_BYTES 4096
#define HOST_BYTES    256

/* The page may use what is in it and ask its own server, nothing else. */
#define HEADERS                                                                                    \
    "X-Content-Type-Options: nosniff\r\n"                                                          \
    "X-Frame-Options: DENY\r\n"                                                                    \
    "Referrer-Policy: no-referrer\r\n"                                                             \
    "Cache-Control: no-store\r\n"                                                                  \
    "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; "                     \
    "script-src 'unsafe-inline'; img-src data:; connect-src 'self'; frame-ancestors 'none'; "      \
    "base-uri 'none'; form-action 'none'\r\n"                                                      \
    "Connection: close\r\n"

struct connection {
    int fd; /* -1 = free */
    uint64_t until_ms;
    char request[REQUEST_BYTES];
    size_t got;
    char *answer; /* owned; NULL while the request is read */
    size_t len, sent;
};

struct server {
    int fd;
    uint32_t pid;
    struct connection at[CONNECTIONS];
};

static volatile sig_atomic_t stopped;

static void stop(int number)
{
    (void)number;
    stopped = 1;
}

static uint64_t now_ms(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
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

static void answer(struct connection *c, const char *status, const char *type, const char *more,
                   const char *body, size_t len, bool head_only)
{
    char head[1024];
    int n = snprintf(head, sizeof(head),
                     "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s" HEADERS "\r\n",
                     status, type, len, more);

    c->answer = malloc((size_t)n + len);
    if (c->answer == NULL) {
        c->until_ms = 0;
        return;
    }
    memcpy(c->answer, head, (size_t)n);
    if (!head_only)
        memcpy(c->answer + n, body, len);
    c->len = (size_t)n + (head_only ? 0 : len);
}

static void answer_words(struct connection *c, const char *status, const char *more,
                         const char *words)
{
    answer(c, status, "text/plain; charset=utf-8", more, words, strlen(words), false);
}

static void answer_metrics(const struct server *s, struct connection *c, bool head_only)
{
    size_t len;
    int code;
    char *text = metrics_text(s->pid, &len, &code);

    if (text == NULL) {
        answer_words(c, "500 Internal Server Error", "", "the numbers cannot be read\n");
        return;
    }
    answer(c, "200 OK", "text/plain; version=0.0.4; charset=utf-8", "", text, len, head_only);
    free(text);
}

static void answer_path(const struct server *s, struct connection *c, const char *path,
                        bool head_only)
{
    size_t len;
    const char *page;

    if (strcmp(path, "/metrics") == 0) {
        answer_metrics(s, c, head_only);
        return;
    }
    page = strcmp(path, "/") == 0 ? live_page(&len) : NULL;
    if (page != NULL)
        answer(c, "200 OK", "text/html; charset=utf-8", "", page, len, head_only);
    else
        answer_words(c, "404 Not Found", "", "there is /metrics\n");
}

/* "METHOD /path?query HTTP/1.x" */
static void answer_request(const struct server *s, struct connection *c)
{
    char *method = c->request, *path = strchr(method, ' '), *version, *end;
    bool head_only;

    c->request[strcspn(c->request, "\r\n")] = '\0';
    path = strchr(method, ' ');
    version = path ? strchr(path + 1, ' ') : NULL;
    if (version == NULL || path[1] != '/' || strncmp(version + 1, "HTTP/1.", 7) != 0) {
        answer_words(c, "400 Bad Request", "", "this is no HTTP request\n");
        return;
    }
    *path++ = '\0';
    *version = '\0';
    end = strchr(path, '?');
    if (end != NULL)
        *end = '\0';
    head_only = strcmp(method, "HEAD") == 0;
    if (!head_only && strcmp(method, "GET") != 0)
        answer_words(c, "405 Method Not Allowed", "Allow: GET, HEAD\r\n", "GET and HEAD only\n");
    else
        answer_path(s, c, path, head_only);
}

/* ---- Connections ---- */

static void connection_end(struct connection *c)
{
    (void)close(c->fd);
    free(c->answer);
    memset(c, 0, sizeof(*c));
    c->fd = -1;
}

/* True: there may be more to do with it. */
static bool receive(const struct server *s, struct connection *c)
{
    ssize_t n = recv(c->fd, c->request + c->got, sizeof(c->request) - 1 - c->got, 0);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n == 0 || memchr(c->request + c->got, 0, (size_t)n) != NULL)
        return false;
    c->got += (size_t)n;
    c->request[c->got] = '\0';
    if (strstr(c->request, "\r\n\r\n") != NULL || strstr(c->request, "\n\n") != NULL)
        answer_request(s, c);
    else if (c->got == sizeof(c->request) - 1)
        answer_words(c, "431 Request Header Fields Too Large", "", "the request is too long\n");
    return true;
}

static bool transmit(struct connection *c)
{
    char rest[512];
    ssize_t n = send(c->fd, c->answer + c->sent, c->len - c->sent, MSG_NOSIGNAL);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    c->sent += (size_t)n;
    if (c->sent < c->len)
        return true;
    /* What was not read would make the kernel reset the connection before the answer is taken. */
    (void)shutdown(c->fd, SHUT_WR);
    while (recv(c->fd, rest, sizeof(rest), MSG_DONTWAIT) > 0)
        ;
    return false;
}

static void accept_one(struct server *s)
{
    int i, fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    for (i = 0; fd >= 0 && i < CONNECTIONS; i++) {
        if (s->at[i].fd < 0) {
            s->at[i].fd = fd;
            s->at[i].until_ms = now_ms() + CONNECTION_MS;
            return;
        }
    }
    if (fd >= 0)
        (void)close(fd);
}

static void turn(struct server *s)
{
    struct pollfd p[CONNECTIONS + 1];
    struct connection *c;
    int i, used = 0;

    for (i = 0; i < CONNECTIONS; i++) {
        c = &s->at[i];
        p[i] = (struct pollfd){.fd = c->fd, .events = c->answer ? POLLOUT : POLLIN};
        used += c->fd >= 0;
    }
    p[CONNECTIONS] = (struct pollfd){.fd = used < CONNECTIONS ? s->fd : -1, .events = POLLIN};
    if (poll(p, CONNECTIONS + 1, 500) < 0)
        return;
    for (i = 0; i < CONNECTIONS; i++) {
        c = &s->at[i];
        if (c->fd < 0)
            continue;
        if ((p[i].revents && !(c->answer ? transmit(c) : receive(s, c))) || now_ms() >= c->until_ms)
            connection_end(c);
    }
    if (p[CONNECTIONS].revents & POLLIN)
        accept_one(s);
}

int metrics_serve(const struct listener *l, uint32_t pid)
{
    struct sigaction sa = {.sa_handler = stop};
    struct server *s = calloc(1, sizeof(*s));
    int i;

    if (s == NULL) {
        (void)close(l->fd);
        return cli_fail(CLI_ENVIRONMENT, "out of memory");
    }
    s->fd = l->fd;
    s->pid = pid;
    for (i = 0; i < CONNECTIONS; i++)
        s->at[i].fd = -1;
    (void)sigaction(SIGINT, &sa, NULL);
    (void)sigaction(SIGTERM, &sa, NULL);
    cli_note("http://%s/metrics", l->name);
    while (!stopped)
        turn(s);
    for (i = 0; i < CONNECTIONS; i++) {
        if (s->at[i].fd >= 0)
            connection_end(&s->at[i]);
    }
    (void)close(l->fd);
    free(s);
    return CLI_OK;
}
