/*
 * cmd_pin.c - pin, unpin and pins: which blocks are kept from eviction, whatever is lacking.
 */
#include <stdio.h>
#include <time.h>

#include "args.h"
#include "cli.h"
#include "json_out.h"
#include "pinning.h"
#include "text.h"

static const char *const states[] = {"holds", "expired", "not valid"};

/* ---- pin ---- */

int pinning_do(struct admin_args *x, const struct pinning *p, const struct prefix *prefix,
               json_t *o)
{
    struct cistern_pin_new how = {.size = sizeof(how), .label = p->label};
    struct cistern_pin_sum sum = {.size = sizeof(sum)};
    char bytes[32], total[32], most[32];
    uint64_t age;
    int r;

    if (p->expires != NULL) {
        if (!text_age_parse(p->expires, &age))
            return cli_fail(CLI_USAGE, "--expires %s: an age is needed, such as 90s, 36h or 30d",
                            p->expires);
        how.expires_s = (uint64_t)time(NULL) + age;
    }
    r = cistern_pin_add(&x->a, &prefix->prefix, &how, &sum);
    admin_quiet(x);
    if (r != 0)
        return cli_fail_lib(r, "%s", x->t.root_path);
    if (o != NULL) {
        json_out_text(o, "id", sum.id);
        json_out_number(o, "keys", sum.keys);
        json_out_number(o, "not_stored", sum.missing);
        json_out_number(o, "pin_bytes", sum.bytes);
        json_out_number(o, "pinned_bytes", sum.total_bytes);
        json_out_number(o, "most_bytes", sum.most_bytes);
        return CLI_OK;
    }
    printf("%s %s%s%llu blocks, %s", x->a.flags & CISTERN_ADMIN_DRY_RUN ? "would pin" : "pinned",
           sum.id, sum.id[0] ? ": " : "", (unsigned long long)sum.keys,
           text_size(sum.bytes, bytes, sizeof(bytes)));
    if (sum.missing)
        printf("; %llu are not stored on every shard yet", (unsigned long long)sum.missing);
    printf("\nall pins: %s", text_size(sum.total_bytes, total, sizeof(total)));
    if (sum.most_bytes)
        printf(" of at most %s", text_size(sum.most_bytes, most, sizeof(most)));
    putchar('\n');
    return CLI_OK;
}

int cmd_pin(int argc, char **argv)
{
    struct admin_args x = {0};
    struct prefix_args names = {0};
    struct pinning pin = {0};
    struct prefix prefix;
    bool dry_run = false;
    const struct arg args[] = {
        TARGET_ARGS(&x.t),  PREFIX_ARGS(&x, &names),
        PINNING_ARGS(&pin), {"dry-run", NULL, ARG_FLAG, &dry_run, 0, 0, "only count"},
        ADMIN_JSON_ARG(&x),
    };
    const struct arg_page page = {
        .usage = "cistern pin [ROOT] --prompt FILE | --key HEX,... | --keys FILE [options]",
        .about =
            "Keeps the blocks of a prompt from eviction, on all hosts and across restarts, as\n"
            "long as the pin stands. Blocks that are not stored yet are kept once they are.\n",
        .args = args,
        .nargs = sizeof(args) / sizeof(args[0]),
        .tail = "All pins of a root together keep at most half of its capacity; one more than\n"
                "that is refused. Writers take a pin up with their next look, within half a\n"
                "minute. `cistern unpin` lets go.\n",
    };
    json_t *o;
    int words, r;

    r = args_parse(&page, argc, argv, 1, &words);
    if (r != ARG_GO)
        return r;
    if ((r = prefix_check(&names)) != CLI_OK ||
        (r = admin_resolve(&x, words ? argv[0] : NULL, false)) != CLI_OK)
        return r;
    x.a.flags = dry_run ? CISTERN_ADMIN_DRY_RUN : 0;
    o = x.json ? json_object() : NULL;
    r = prefix_read(&names, &prefix);
    if (r == CLI_OK)
        r = pinning_do(&x, &pin, &prefix, o);
    prefix_release(&prefix);
    if (r == CLI_OK && o != NULL)
        return json_out_print(o);
    json_decref(o);
    return r;
}

/* ---- unpin and pins ---- */

struct listing {
    struct admin_args x;
    const char *verb; /* "" or "removed " */
    json_t *list;     /* NULL without --json */
    uint64_t bytes, count;
};

static int on_pin(void *arg, const struct cistern_pin *p)
{
    struct listing *l = arg;
    char bytes[32], created[32], expires[32];
    json_t *o;

    admin_quiet(&l->x);
    l->count++;
    if (p->state == CISTERN_PIN_HOLDS)
        l->bytes += p->bytes;
    if (l->list == NULL) {
        printf("%s%s  %s  %u keys, %s, since %s%s%s%s%s%s  %s\n", l->verb, p->id, states[p->state],
               p->keys, text_size(p->bytes, bytes, sizeof(bytes)),
               text_time(p->created_s, created, sizeof(created)), p->expires_s ? ", until " : "",
               p->expires_s ? text_time(p->expires_s, expires, sizeof(expires)) : "",
               p->label[0] ? ", '" : "", p->label, p->label[0] ? "'" : "", p->space);
        return ferror(stdout) ? CLI_IO : 0;
    }
    o = json_object();
    json_out_text(o, "id", p->id);
    json_out_text(o, "space", p->space);
    json_out_text(o, "path", p->path);
    json_out_text(o, "state", states[p->state]);
    json_out_text(o, "label", p->label);
    json_out_number(o, "keys", p->keys);
    json_out_number(o, "bytes", p->bytes);
    json_out_number(o, "created_s", p->created_s);
    json_out_number(o, "expires_s", p->expires_s);
    return json_array_append_new(l->list, o) != 0 ? CLI_ENVIRONMENT : 0;
}

/* `r`: of the library. */
static int listing_end(struct listing *l, int r)
{
    char bytes[32];
    json_t *o;

    admin_quiet(&l->x);
    if (r < 0) {
        json_decref(l->list);
        return cli_fail_lib(r, "%s", l->x.t.root_path);
    }
    if (l->list != NULL) {
        o = json_object();
        json_object_set_new(o, "pins", l->list);
        json_out_number(o, "bytes", l->bytes);
        return json_out_print(o);
    }
    if (!l->verb[0])
        printf("%llu pins, %s\n", (unsigned long long)l->count,
               text_size(l->bytes, bytes, sizeof(bytes)));
    return CLI_OK;
}

int cmd_pins(int argc, char **argv)
{
    struct listing l = {.verb = ""};
    const struct arg args[] = {
        TARGET_ARGS(&l.x.t),
        ADMIN_SPACE_ARG(&l.x),
        ADMIN_JSON_ARG(&l.x),
    };
    const struct arg_page page = {
        .usage = "cistern pins [ROOT] [options]",
        .about = "Lists the pins of a root: id, state, keys, bytes, times, label, space.\n",
        .args = args,
        .nargs = sizeof(args) / sizeof(args[0]),
    };
    int words, r;

    r = args_parse(&page, argc, argv, 1, &words);
    if (r != ARG_GO)
        return r;
    r = admin_resolve(&l.x, words ? argv[0] : NULL, false);
    if (r != CLI_OK)
        return r;
    l.list = l.x.json ? json_array() : NULL;
    return listing_end(&l, cistern_pin_list(&l.x.a, on_pin, &l));
}

int cmd_unpin(int argc, char **argv)
{
    struct listing l = {.verb = "removed "};
    const struct arg args[] = {
        TARGET_ARGS(&l.x.t),
        ADMIN_SPACE_ARG(&l.x),
        ADMIN_JSON_ARG(&l.x),
    };
    const struct arg_page page = {
        .usage = "cistern unpin ID|LABEL [ROOT] [options]",
        .about =
            "Removes the pins with this id or label. Their blocks may be evicted from then on.\n",
        .args = args,
        .nargs = sizeof(args) / sizeof(args[0]),
        .tail = "Exit status 1: there is no such pin.\n",
    };
    int words, r;

    r = args_parse(&page, argc, argv, 2, &words);
    if (r != ARG_GO)
        return r;
    if (words < 1)
        return cli_fail(CLI_USAGE, "an id or a label is needed: %s", page.usage);
    r = admin_resolve(&l.x, words == 2 ? argv[1] : NULL, false);
    if (r != CLI_OK)
        return r;
    l.list = l.x.json ? json_array() : NULL;
    r = listing_end(&l, cistern_pin_remove(&l.x.a, argv[0], on_pin, &l));
    if (r == CLI_OK && !l.count) {
        cli_note("no pin has the id or label '%s'", argv[0]);
        return CLI_FINDINGS;
    }
    return r;
}
