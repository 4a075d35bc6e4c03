/*
 * cmd_clusters.c - which network cluster this host is in, whose storage it would use, and why.
 *
 * The answer is cistern_cluster_look(), the same that every open goes by. No storage is touched.
 */
#include <stdio.h>
#include <string.h>

#include "args.h"
#include "cistern.h"
#include "cli.h"
#include "json_out.h"

static const char *const verdicts[] = {"none", "own", "elsewhere", "crossed", "refused", "unknown"};

struct listing {
    const struct cistern_cluster *own;
    json_t *json; /* array; NULL = print */
};

static json_t *entry_json(const struct cistern_cluster_entry *e)
{
    json_t *o = json_object(), *hosts = json_array();
    uint32_t i;

    json_out_text(o, "name", e->name);
    json_out_text(o, "storage", e->storage);
    json_out_text(o, "mount", e->mount);
    for (i = 0; i < e->npatterns; i++)
        (void)json_array_append_new(hosts, json_string(e->patterns[i]));
    (void)json_object_set_new(o, "hosts", hosts);
    return o;
}

static int on_entry(void *arg, const struct cistern_cluster_entry *e)
{
    struct listing *l = arg;
    uint32_t i;

    if (l->json)
        return json_array_append_new(l->json, entry_json(e)) ? CLI_ENVIRONMENT : 0;
    printf("%c %-16s %-16s %-24s", strcmp(e->name, l->own->name) == 0 ? '*' : ' ', e->name,
           e->storage, e->mount);
    for (i = 0; i < e->npatterns; i++)
        printf("%s%s", i ? ", " : " ", e->patterns[i]);
    printf("\n");
    return 0;
}

static int print_json(const struct cistern_options *o, const struct cistern_cluster *x)
{
    struct listing l = {.own = x, .json = json_array()};
    json_t *top = json_object();
    int r;

    json_out_text(top, "verdict", verdicts[x->verdict]);
    json_out_text(top, "text", x->text);
    json_out_text(top, "file", x->file);
    json_out_text(top, "host", x->host);
    json_out_text(top, "cluster", x->name);
    json_out_text(top, "storage", x->storage);
    json_out_text(top, "mount", x->mount);
    json_out_text(top, "pattern", x->pattern);
    json_out_text(top, "path", x->path);
    json_out_text(top, "mounted", x->mounted);
    json_out_text(top, "other", x->other);
    json_out_text(top, "other_storage", x->other_storage);
    r = cistern_cluster_list(o, on_entry, &l);
    (void)json_object_set_new(top, "clusters", l.json);
    if (r) {
        json_decref(top);
        return r < 0 ? cli_fail_lib(r, "%s", x->file) : cli_fail(r, "out of memory");
    }
    return json_out_print(top);
}

static int print_text(const struct cistern_options *o, const struct cistern_cluster *x)
{
    struct listing l = {.own = x};
    int r;

    printf("%s\n", x->text);
    if (x->path[0])
        printf("root: %s\n", x->path);
    if (x->verdict == CISTERN_CLUSTER_NONE)
        return CLI_OK;
    printf("\n%s:\n  %-16s %-16s %-24s %s\n", x->file, "cluster", "3FS cluster", "mount", "hosts");
    r = cistern_cluster_list(o, on_entry, &l);
    return r ? cli_fail_lib(r, "%s", x->file) : CLI_OK;
}

int cmd_clusters(int argc, char **argv)
{
    struct cistern_options o = {.size = sizeof(o)};
    struct cistern_cluster x = {.size = sizeof(x)};
    const char *mount = NULL, *root = NULL, *cluster = NULL, *host = NULL, *file = NULL;
    bool json = false;
    const struct arg args[] = {
        {"file", "FILE", ARG_STRING, &file, 0, 0,
         "that describes clusters (CISTERN_CLUSTERS, else /etc/cistern/clusters.json)"},
        {"cluster", "NAME", ARG_STRING, &cluster, 0, 0,
         "network cluster of the host (CISTERN_CLUSTER, else by its name)"},
        {"host", "NAME", ARG_STRING, &host, 0, 0,
         "ask for this host (CISTERN_HOST, else this machine)"},
        {"mount", "DIR", ARG_STRING, &mount, 0, 0,
         "mount that is given (CISTERN_MOUNT, else that of the cluster)"},
        {"root", "DIR", ARG_STRING, &root, 0, 0,
         "directory below the mount (CISTERN_ROOT, else rtp_llm/)"},
        {"json", NULL, ARG_FLAG, &json, 0, 0, "one JSON object"},
    };
    const struct arg_page page = {
        .usage = "cistern clusters [options]",
        .about = "Says which network cluster this host is in, which storage it uses, and why.\n"
                 "Looks at no storage.\n",
        .args = args,
        .nargs = sizeof(args) / sizeof(args[0]),
        .tail = "exit status: 1 when an open would be refused\n",
    };
    int words, r = args_parse(&page, argc, argv, 0, &words);

    if (r != ARG_GO)
        return r;
    if ((r = cistern_options_from_env(&o)))
        return cli_fail_lib(r, "the environment");
    o.clusters = file ? file : o.clusters;
    o.cluster = cluster ? cluster : o.cluster;
    o.host = host ? host : o.host;
    o.mount = mount ? mount : o.mount;
    o.root = root ? root : o.root;
    if ((r = cistern_cluster_look(&o, &x)))
        return cli_fail_lib(r, "network clusters");
    r = json ? print_json(&o, &x) : print_text(&o, &x);
    if (r == CLI_OK &&
        (x.verdict == CISTERN_CLUSTER_REFUSED || x.verdict == CISTERN_CLUSTER_UNKNOWN))
        return CLI_FINDINGS;
    return r;
}
