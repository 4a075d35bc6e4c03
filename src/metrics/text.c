/* text.c - see text.h. */
#include "metrics/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define NS 1000000000u

struct text {
    char *buf;
    size_t size, used;
};

static void add(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct text *t, const char *format, ...)
{
    size_t room = t->used < t->size ? t->size - t->used : 0;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(room ? t->buf + t->used : NULL, room, format, args);
    va_end(args);
    t->used += n > 0 ? (size_t)n : 0;
}

static void add_char(struct text *t, char c)
{
    if (t->used + 1 < t->size) {
        t->buf[t->used] = c;
        t->buf[t->used + 1] = 0;
    }
    t->used++;
}

static void add_escaped(struct text *t, const char *s, bool quoted)
{
    for (; *s; s++) {
        if (*s == '\\' || (quoted && *s == '"'))
            add_char(t, '\\');
        add_char(t, *s);
    }
}

static void add_label(struct text *t, const char *key, const char *value)
{
    add(t, ",%s=\"", key);
    add_escaped(t, value, true);
    add_char(t, '"');
}

/* name{labels, without the closing brace. */
static void add_series(struct text *t, const char *name, const char *end, const struct page *p)
{
    char root[2200];

    (void)snprintf(root, sizeof root, "%s/%s", page_label(p, "mount"), page_label(p, "root"));
    add(t, "%s%s{pid=\"%u\",handle=\"%u\"", name, end, p->id.pid, p->id.handle);
    add_label(t, "root", root);
    add_label(t, "model", page_label(p, "model"));
    add(t, ",shard=\"%u\"", p->id.shard);
}

/* Exact, whatever the locale writes between a number and its fraction. */
static void add_number(struct text *t, uint64_t value, uint32_t divisor)
{
    uint32_t rest = (uint32_t)(value % divisor), digits = 0, d;

    for (d = divisor; d > 1; d /= 10)
        digits++;
    while (digits && rest % 10 == 0) {
        rest /= 10;
        digits--;
    }
    add(t, "%" PRIu64, value / divisor);
    if (digits)
        add(t, ".%0*u", (int)digits, rest);
}

static void add_value(struct text *t, uint64_t value, uint32_t divisor)
{
    add(t, "} ");
    add_number(t, value, divisor);
    add_char(t, '\n');
}

static void add_histogram(struct text *t, const char *name, uint32_t divisor, const struct page *p,
                          const struct cistern_sample *s)
{
    uint64_t count = 0;
    uint32_t i;

    for (i = 0; i <= s->buckets; i++) {
        count += s->counts[i];
        add_series(t, name, "_bucket", p);
        add(t, ",le=\"");
        if (i < s->buckets)
            add_number(t, s->bounds[i], divisor);
        else
            add(t, "+Inf");
        add_char(t, '"');
        add_value(t, count, 1);
    }
    add_series(t, name, "_sum", p);
    add_value(t, s->value, divisor);
    add_series(t, name, "_count", p);
    add_value(t, count, 1);
}

static const struct cistern_sample *find(const struct page *p, const char *name, uint32_t hint)
{
    uint32_t i;

    if (hint < p->nsamples && strcmp(p->samples[hint].name, name) == 0)
        return &p->samples[hint];
    for (i = 0; i < p->nsamples; i++) {
        if (strcmp(p->samples[i].name, name) == 0)
            return &p->samples[i];
    }
    return NULL;
}

static void add_about(struct text *t, const char *name, const char *help, uint32_t kind)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};

    add(t, "# HELP %s ", name);
    add_escaped(t, help, false);
    add(t, "\n# TYPE %s %s\n", name, kinds[kind]);
}

static void add_metric(struct text *t, const struct text_handle *handles, uint32_t from, uint32_t n,
                       uint32_t which)
{
    const struct cistern_sample *first = &handles[from].page->samples[which], *s;
    char name[METRIC_EXPORT_MAX];
    uint32_t divisor = metric_export_name(first->name, (enum metric_kind)first->kind, name), i;

    add_about(t, name, first->help, first->kind);
    for (i = from; i < n; i++) {
        s = find(handles[i].page, first->name, which);
        if (!s || s->kind != first->kind)
            continue;
        if (s->kind == METRIC_IS_HISTOGRAM) {
            add_histogram(t, name, divisor, handles[i].page, s);
            continue;
        }
        add_series(t, name, "", handles[i].page);
        add_value(t, s->value, divisor);
    }
}

/* What is known of each handle beside its numbers. */
static void add_handles(struct text *t, const struct text_handle *handles, uint32_t n)
{
    static const char *const more[] = {"provider", "mode", "space", "version"};
    uint32_t i, k;

    add_about(t, "cistern_handles", "handles that report", METRIC_IS_GAUGE);
    add(t, "cistern_handles %u\n", n);
    if (!n)
        return;
    add_about(t, "cistern_handle_info", "1; what is known of a handle is in the labels",
              METRIC_IS_GAUGE);
    for (i = 0; i < n; i++) {
        add_series(t, "cistern_handle_info", "", handles[i].page);
        add(t, ",shards=\"%u\"", handles[i].page->id.shards);
        for (k = 0; k < sizeof more / sizeof more[0]; k++)
            add_label(t, more[k], page_label(handles[i].page, more[k]));
        add_value(t, 1, 1);
    }
    add_about(t, "cistern_handle_age_seconds", "how old the numbers of a handle are",
              METRIC_IS_GAUGE);
    for (i = 0; i < n; i++) {
        add_series(t, "cistern_handle_age_seconds", "", handles[i].page);
        add_value(t, handles[i].age_ns, NS);
    }
}

/* A handle before this one has it, or this one has it twice. */
static bool seen(const struct text_handle *handles, uint32_t from, uint32_t which)
{
    const struct cistern_sample *s = &handles[from].page->samples[which];
    uint32_t i;

    for (i = 0; i < from; i++) {
        if (find(handles[i].page, s->name, which))
            return true;
    }
    return find(handles[from].page, s->name, UINT32_MAX) != s;
}

size_t text_render(char *buf, size_t size, const struct text_handle *handles, uint32_t n)
{
    struct text t = {.buf = buf, .size = size};
    uint32_t i, k;

    if (size)
        buf[0] = 0;
    add_handles(&t, handles, n);
    for (i = 0; i < n; i++) {
        for (k = 0; k < handles[i].page->nsamples; k++) {
            if (!seen(handles, i, k))
                add_metric(&t, handles, i, n, k);
        }
    }
    return t.used;
}
