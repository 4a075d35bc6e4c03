/*
 * report.c - what minillm tells. Raw numbers: tokens, bytes, seconds as measured, nothing derived
 * but rates. Only rank 0 calls it. Lines are flushed, since a demo kills the process.
 */
#include "report.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static void json_string(const char *s, size_t n)
{
    putchar('"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20 || c >= 0x7f)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static void json_numbers(const char *name, const int64_t *v, int n)
{
    printf(", \"%s\": [", name);
    for (int i = 0; i < n; i++)
        printf("%s%lld", i ? ", " : "", (long long)v[i]);
    putchar(']');
}

/* FNV-1a over the raw floats: equal when all bits are. */
static uint64_t logits_hash(const struct report *r)
{
    const unsigned char *p = (const unsigned char *)r->logits;
    size_t n = sizeof(float) * VOCAB * (size_t)r->new_tokens;
    uint64_t h = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3ull;
    return h;
}

static double rate(double amount, double seconds)
{
    return seconds > 0 ? amount / seconds : 0;
}

/* "key=value" lines as members of an object */
static void json_pairs(const char *lines)
{
    const char *sep = "";
    putchar('{');
    for (const char *at = lines; *at;) {
        size_t len = strcspn(at, "\n"), key = strcspn(at, "=");
        if (key < len) {
            fputs(sep, stdout);
            json_string(at, key);
            fputs(": ", stdout);
            json_string(at + key + 1, len - key - 1);
            sep = ", ";
        }
        at += len + (at[len] == '\n');
    }
    putchar('}');
}

void report_ready(const struct config *c, const char *arithmetic, const char *tier2,
                  const char *why)
{
    const struct shape *s = &c->shape;

    if (c->json) {
        printf("{\"event\": \"ready\", \"ranks\": %d, \"block_tokens\": %d, \"block_bytes\": %zu, "
               "\"arithmetic\": \"%s\", \"reuse_cache\": %s, \"enable_3fs\": %s, \"tier2\": ",
               s->tp, s->block_tokens, shape_block_bytes(s), arithmetic,
               c->reuse_cache ? "true" : "false", c->tier2 ? "true" : "false");
        json_pairs(tier2);
        printf(", \"tier2_error\": ");
        json_string(why, strlen(why));
        printf("}\n");
    } else {
        printf("%d layers, %d heads on %d KV heads, %d rank%s, %s; blocks of %d tokens, %zu KiB "
               "per rank\nreuse_cache %s, enable_3fs %s\n",
               s->layers, s->heads, s->kv_heads, s->tp, s->tp > 1 ? "s" : "", arithmetic,
               s->block_tokens, shape_block_bytes(s) / 1024, c->reuse_cache ? "on" : "off",
               c->tier2 ? "on" : "off");
        for (const char *at = tier2; *at; at += strcspn(at, "\n"), at += *at == '\n')
            printf("  %.*s\n", (int)strcspn(at, "\n"), at);
    }
    fflush(stdout);
}

static void request_json(const struct config *c, const struct report *r, const char *name)
{
    printf("{\"event\": \"request\", \"id\": %d, \"name\": ", r->id);
    json_string(name, strlen(name));
    printf(", \"prompt_tokens\": %d, \"tier1_tokens\": %d, \"tier2_tokens\": %d, "
           "\"computed_tokens\": %d, \"matched_blocks\": %d, \"ttft_s\": %.6f, \"match_s\": %.6f, "
           "\"get_s\": %.6f, \"compute_s\": %.6f",
           r->prompt, r->tier1, r->tier2, r->computed, r->matched, r->ttft, r->match, r->get,
           r->compute);
    json_numbers("tier2_blocks", r->blocks, c->shape.tp);
    json_numbers("tier2_bytes", r->bytes, c->shape.tp);
    json_numbers("tier2_ns", r->nanoseconds, c->shape.tp);
    if (c->shadow)
        printf(", \"shadow_checked\": %d, \"shadow_differs\": %d", r->shadow_checked,
               r->shadow_differs);
    printf(", \"logits_hash\": \"%016llx\", \"answer\": ", (unsigned long long)logits_hash(r));
    json_string((const char *)r->answer, (size_t)r->new_tokens);
    printf("}\n");
}

static void request_text(const struct config *c, const struct report *r, const char *name)
{
    printf("\nrequest %d: %s\n", r->id, name);
    printf("  tokens         %d prompt = %d from tier 1 + %d from tier 2 + %d computed\n",
           r->prompt, r->tier1, r->tier2, r->computed);
    printf("  first token    %.1f ms (match %.2f, read %.1f, compute %.1f: %.0f tokens/s)\n",
           r->ttft * 1e3, r->match * 1e3, r->get * 1e3, r->compute * 1e3,
           rate(r->computed, r->compute));
    for (int i = 0; i < c->shape.tp && c->tier2; i++)
        printf("  tier 2 rank %d  %lld blocks, %lld bytes, %.2f GB/s\n", i, (long long)r->blocks[i],
               (long long)r->bytes[i], rate((double)r->bytes[i], (double)r->nanoseconds[i]));
    if (r->shadow_checked)
        printf("  shadow         %d blocks computed again, %s\n", r->shadow_checked,
               r->shadow_differs ? "the last of them DIFFERS" : "all bits equal");
    printf("  logits         %016llx\n  answer         \"", (unsigned long long)logits_hash(r));
    for (int i = 0; i < r->new_tokens; i++)
        isprint(r->answer[i]) ? putchar(r->answer[i]) : printf("\\x%02x", r->answer[i]);
    printf("\"\n");
}

void report_request(const struct config *c, const struct report *r, const char *name)
{
    if (c->json)
        request_json(c, r, name);
    else
        request_text(c, r, name);
    fflush(stdout);
}

void report_failure(const struct config *c, int id, const char *name, const char *why)
{
    fprintf(stderr, "minillm: request %d (%s): %s\n", id, name, why);
    if (c->json) {
        printf("{\"event\": \"failed\", \"id\": %d, \"error\": ", id);
        json_string(why, strlen(why));
        printf("}\n");
        fflush(stdout);
    }
}

void report_flushed(const struct config *c, const struct tier2_counts *n, bool complete)
{
    const char *done = complete ? "true" : "false";
    unsigned long long stored = n->stored, present = n->present, dropped = n->dropped,
                       failed = n->failed;

    if (c->json)
        printf("{\"event\": \"flushed\", \"stored\": %llu, \"present\": %llu, "
               "\"dropped\": %llu, \"failed\": %llu, \"complete\": %s}\n",
               stored, present, dropped, failed, done);
    else
        printf("\nput to tier 2: %llu blocks stored, %llu there already, %llu dropped, %llu "
               "failed; complete: %s\n",
               stored, present, dropped, failed, done);
    fflush(stdout);
}

void report_drained(const struct config *c, uint64_t left, double seconds)
{
    if (c->json)
        printf("{\"event\": \"drained\", \"left\": %llu, \"seconds\": %.3f}\n",
               (unsigned long long)left, seconds);
    else
        printf("\ntold to end: %llu puts left unfinished after %.3f s\n", (unsigned long long)left,
               seconds);
    fflush(stdout);
}
