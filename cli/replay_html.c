/*
 * replay_html.c - a replay as one page without scripts and without the network: what was saved, in
 * numbers and two charts, in words for who has to decide and not to operate.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "replay.h"
#include "text.h"

#define WIDTH  720
#define HEIGHT 300
#define LEFT   56
#define RIGHT  24
#define TOP    16
#define BOTTOM 44
#define STEPS  160 /* points of a distribution */

/* A chart: x logarithmic, y from 0 to 100 percent. */
struct chart {
    FILE *f;
    double low, high; /* of x */
};

static double place_x(const struct chart *c, double x)
{
    double span = log(c->high) - log(c->low);

    x = x < c->low ? c->low : x > c->high ? c->high : x;
    return LEFT + (WIDTH - LEFT - RIGHT) * (span > 0 ? (log(x) - log(c->low)) / span : 0);
}

static double place_y(double percent)
{
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - percent / 100);
}

static void chart_begin(const struct chart *c, const char *label)
{
    int p;

    fprintf(c->f,
            "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">\n"
            "<g class=\"grid\">\n",
            WIDTH, HEIGHT, label);
    for (p = 0; p <= 100; p += 25)
        fprintf(c->f,
                "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>"
                "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%d %%</text>\n",
                LEFT, WIDTH - RIGHT, place_y(p), place_y(p), LEFT - 8, place_y(p) + 4, p);
    fprintf(c->f, "</g>\n");
}

static void chart_mark(const struct chart *c, double x, const char *text)
{
    fprintf(c->f,
            "<line class=\"tick\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>"
            "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
            place_x(c, x), place_x(c, x), HEIGHT - BOTTOM, HEIGHT - BOTTOM + 5, place_x(c, x),
            HEIGHT - BOTTOM + 20, text);
}

static void chart_end(const struct chart *c, const char *label)
{
    fprintf(c->f,
            "<text class=\"axis\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n</svg>\n",
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, label);
}

/* ---- The charts ---- */

static void draw_curve(FILE *f, const struct replay_config *c, const struct replay_trace *t,
                       const struct replay_curve *curve)
{
    uint64_t points[REPLAY_POINTS];
    size_t n = replay_points(t, points), i;
    struct chart chart = {f, (double)points[0], (double)points[n - 1] * 1.02};
    char size[32];

    chart_begin(&chart, "Share of prompt blocks found, by room for the cache");
    for (i = 0; i<n; i += n> 8 ? 3 : 1)
        chart_mark(&chart, (double)points[i],
                   text_size(points[i] * c->block_bytes * c->tp, size, sizeof(size)));
    fprintf(f, "<polyline class=\"one\" points=\"");
    for (i = 0; i < n; i++)
        fprintf(f, "%.1f,%.1f ", place_x(&chart, (double)points[i]),
                place_y(100.0 * (double)replay_curve_hits(curve, points[i]) /
                        (double)curve->references));
    fprintf(f, "\"/>\n");
    chart_end(&chart, "room for the cache");
}

static int by_value(const void *x, const void *y)
{
    float a = *(const float *)x, b = *(const float *)y;

    return a < b ? -1 : a > b;
}

static void draw_distribution(const struct chart *chart, const struct replay_result *r, bool with,
                              const char *class, float *v)
{
    uint64_t i, at;

    for (i = 0; i < r->requests; i++)
        v[i] = with ? r->samples[i].with : r->samples[i].recompute;
    qsort(v, r->requests, sizeof(*v), by_value);
    fprintf(chart->f, "<polyline class=\"%s\" points=\"", class);
    for (i = 0; i <= STEPS; i++) {
        at = (r->requests - 1) * i / STEPS;
        fprintf(chart->f, "%.1f,%.1f ", place_x(chart, v[at] > 0 ? v[at] : chart->low),
                place_y(100.0 * (double)i / STEPS));
    }
    fprintf(chart->f, "\"/>\n");
}

static void draw_times(FILE *f, const struct replay_result *r, float *v)
{
    static const struct {
        double at;
        const char *text;
    } marks[] = {{0.001, "1 ms"}, {0.01, "10 ms"}, {0.1, "0.1 s"},
                 {1, "1 s"},      {10, "10 s"},    {100, "100 s"}};
    struct chart chart = {f, 1e9, 0};
    uint64_t i;
    size_t k;

    for (i = 0; i < r->requests; i++) {
        chart.high = fmax(chart.high, fmax(r->samples[i].recompute, r->samples[i].with));
        chart.low = fmin(chart.low, fmin(r->samples[i].recompute, r->samples[i].with));
    }
    chart.low = fmax(chart.low, 0.001);
    chart.high = fmax(chart.high, chart.low * 10);
    chart_begin(&chart, "Requests whose first token has come, by time");
    for (k = 0; k < sizeof(marks) / sizeof(marks[0]); k++) {
        if (marks[k].at >= chart.low && marks[k].at <= chart.high)
            chart_mark(&chart, marks[k].at, marks[k].text);
    }
    draw_distribution(&chart, r, false, "two", v);
    draw_distribution(&chart, r, true, "one", v);
    chart_end(&chart, "time to first token");
}

/* ---- The page ---- */

static const char style[] =
    ":root{color-scheme:light dark;--ink:#1d2530;--soft:#5b6675;--line:#d9dee5;--card:#f5f7fa;"
    "--one:#0b6bcb;--two:#b45309}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9aa5b4;--line:#333c48;"
    "--card:#1b222b;--one:#5aa9ff;--two:#f0a35e}body{background:#12171e}}\n"
    "body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);max-width:780px;margin:2rem auto;"
    "padding:0 1rem}\n"
    "h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.1rem;margin-top:2.2rem}"
    "p{color:var(--soft);margin:.3rem 0 1rem}\n"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(160px,1fr));gap:.8rem}\n"
    ".tile{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.8rem "
    "1rem}"
    ".tile b{display:block;font-size:1.6rem;line-height:1.2}.tile span{color:var(--soft);"
    "font-size:.85rem}\n"
    "svg{width:100%;height:auto}svg text{font-size:12px;fill:var(--soft)}"
    ".grid line{stroke:var(--line)}.tick{stroke:var(--soft)}\n"
    "polyline{fill:none;stroke-width:2.5;stroke-linejoin:round}.one{stroke:var(--one)}"
    ".two{stroke:var(--two)}\n"
    ".key i{display:inline-block;width:1.4em;height:3px;vertical-align:middle;margin:0 .4em 0 1em}"
    "table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid var(--line);"
    "padding:.35rem .6rem;text-align:right}td:first-child,th:first-child{text-align:left}\n";

static void tile(FILE *f, const char *what, double v, const char *unit)
{
    fprintf(f, "<div class=\"tile\"><b>%.2f%s</b><span>%s</span></div>\n", v, unit, what);
}

static void row(FILE *f, const char *what, const struct replay_times *t)
{
    fprintf(f, "<tr><td>%s</td><td>%.2f s</td><td>%.2f s</td><td>%.2f s</td><td>%.2f s</td></tr>\n",
            what, t->mean, t->p50, t->p90, t->p99);
}

static void page(FILE *f, const struct replay_config *c, const struct replay_trace *t,
                 const struct replay_result *r, const struct replay_curve *curve, float *v)
{
    struct replay_times without, with;
    char a[32], b[32];

    replay_times(r, false, &without);
    replay_times(r, true, &with);
    fprintf(
        f,
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">"
        "<meta name=\"viewport\" content=\"width=device-width\">"
        "<title>Cistern: replay</title>\n<style>\n%s</style>\n<h1>What the cache saves</h1>\n"
        "<p>%llu requests were replayed over a store with real bytes: %llu blocks of %u tokens, "
        "%s each on %llu rank%s. Computing is counted at %.0f tokens a second; reading was "
        "measured.</p>\n<div class=\"tiles\">\n",
        style, (unsigned long long)r->requests, (unsigned long long)r->references, t->block_tokens,
        text_size(c->block_bytes, a, sizeof(a)), (unsigned long long)c->tp, c->tp > 1 ? "s" : "",
        c->prefill_rate);
    tile(f, "of all prompt tokens were not computed again",
         r->tokens ? 100.0 * (double)r->tokens_saved / (double)r->tokens : 0, " %");
    tile(f, "of blocks were found",
         r->references ? 100.0 * (double)r->hits / (double)r->references : 0, " %");
    tile(f, "mean time to first token, before", without.mean, " s");
    tile(f, "mean time to first token, with the cache", with.mean, " s");
    tile(f, "hours of computing saved on one instance",
         (double)r->tokens_saved / c->prefill_rate / 3600, "");
    fprintf(f, "</div>\n<h2>How long people wait for the first token</h2>\n"
               "<p class=\"key\">Share of requests that have it, by time.<i style=\"background:var("
               "--two)\"></i>computing everything<i style=\"background:var(--one)\"></i>with the "
               "cache</p>\n");
    draw_times(f, r, v);
    fprintf(f, "<table><tr><th></th><th>mean</th><th>half</th><th>90 %%</th><th>99 %%</th></tr>\n");
    row(f, "computing everything", &without);
    row(f, "with the cache", &with);
    fprintf(f, "</table>\n<h2>How much room is worth it</h2>\n<p>Share of prompt blocks found by a "
               "cache that drops what was not used for the longest time, by its size.</p>\n");
    draw_curve(f, c, t, curve);
    fprintf(f,
            "<h2>What storage did</h2>\n<p>%s read and checked, %s written; %llu blocks dropped, "
            "%llu errors, %llu with wrong bytes.</p>\n</html>\n",
            text_size(r->bytes_read, a, sizeof(a)), text_size(r->bytes_written, b, sizeof(b)),
            (unsigned long long)r->dropped, (unsigned long long)r->errors,
            (unsigned long long)r->wrong);
}

int replay_write_html(const struct replay_config *c, const struct replay_trace *t,
                      const struct replay_result *r, const struct replay_curve *curve)
{
    float *v = calloc(r->requests + 1, sizeof(*v));
    FILE *f = v && r->requests ? fopen(c->html, "we") : NULL;
    int rc;

    if (!f) {
        free(v);
        return cli_fail(CLI_ENVIRONMENT, "%s: %s", c->html,
                        r->requests ? strerror(errno) : "nothing was replayed");
    }
    page(f, c, t, r, curve, v);
    rc = ferror(f) ? CLI_IO : CLI_OK;
    if (fclose(f) != 0 || rc != CLI_OK)
        rc = cli_fail(CLI_IO, "%s cannot be written", c->html);
    free(v);
    return rc;
}
