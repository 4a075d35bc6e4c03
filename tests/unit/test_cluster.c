/*
 * test_cluster.c - network clusters: the file with all that can be wrong in it, the cluster of a
 * host, whose storage a path is, and what an open makes of it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bits.h"
#include "engine/cluster.h"
#include "engine/config.h"
#include "io/hostfile.h"

#define ENTRY(name, storage, mount)                                                                \
    "{\"name\":\"" name "\",\"storage\":\"" storage "\",\"mount\":\"" mount "\"}"

static const char good[] =
    "{\"clusters\": [\n"
    " {\"name\": \"na61\", \"hosts\": [\"web-1*\", \"gpu-[0-4]?\"], \"storage\": \"stor-a\",\n"
    "  \"mount\": \"/3fs/a/\"},\n"
    " {\"name\": \"na175\", \"hosts\": [\"web-2*\"], \"storage\": \"stor-b\", \"mount\": "
    "\"/3fs/b\"},\n"
    " {\"name\": \"deep\", \"hosts\": [\"deep\"], \"storage\": \"stor-c\", \"mount\": "
    "\"/3fs/b/c\"},\n"
    " {\"name\": \"same\", \"hosts\": [\"same\"], \"storage\": \"stor-d\", \"mount\": "
    "\"/3fs//./a\"},\n"
    " {\"name\": \"by-name-only\", \"storage\": \"stor-e\", \"mount\": \"/3fs/e\"}]}\n";

static char file[64];

static void file_write(const char *text)
{
    FILE *f = fopen(file, "we");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static int group_setup(void **state)
{
    int fd;

    (void)state;
    (void)snprintf(file, sizeof file, "/tmp/cistern-clusters-XXXXXX");
    fd = mkstemp(file);
    return fd >= 0 ? close(fd) : -1;
}

static int group_teardown(void **state)
{
    (void)state;
    return unlink(file);
}

/* ---- The file ---- */

static void test_a_good_file(void **state)
{
    struct clusters c = {0};

    (void)state;
    assert_int_equal(clusters_parse("f", good, strlen(good), &c), 0);
    assert_int_equal(c.count, 5);
    assert_string_equal(c.list[0].name, "na61");
    assert_string_equal(c.list[0].storage, "stor-a");
    assert_string_equal(c.list[0].mount, "/3fs/a");
    assert_string_equal(cluster_pattern(&c.list[0], 1), "gpu-[0-4]?");
    assert_null(cluster_pattern(&c.list[0], 2));
    assert_null(cluster_pattern(&c.list[4], 0));
    assert_string_equal(c.list[3].mount, "/3fs/a");
    clusters_release(&c);
}

static void test_bad_files_are_refused_with_the_place(void **state)
{
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"", "line 1"},
        {"{\"clusters\": [\n{\"name\": \"a\",}]}", "line 2"},
        {"{\"clusters\": [" ENTRY("a", "s", "/m") "]} more", "line 1"},
        {"[]", "must be {"},
        {"{}", "clusters: must be"},
        {"{\"clusters\": []}", "1 to 256"},
        {"{\"clusters\": {}}", "clusters: must be"},
        {"{\"clusters\": [1]}", "clusters[0]: must be an object"},
        {"{\"cluster\": []}", "cluster: is no member"},
        {"{\"clusters\": [], \"clusters\": []}", "duplicate"},
        {"{\"clusters\": [{\"name\":\"a\",\"storage\":\"s\",\"mount\":\"/m\",\"host\":[]}]}",
         "clusters[0].host: is no member"},
        {"{\"clusters\": [" ENTRY("a", "s", "/m") "," ENTRY("a", "t", "/n") "]}",
         "clusters[1].name: is the name of a cluster before it"},
        {"{\"clusters\": [{\"storage\":\"s\",\"mount\":\"/m\"}]}", "clusters[0].name"},
        {"{\"clusters\": [" ENTRY("", "s", "/m") "]}", "clusters[0].name"},
        {"{\"clusters\": [" ENTRY("a b", "s", "/m") "]}", "clusters[0].name"},
        {"{\"clusters\": [" ENTRY("a\\n", "s", "/m") "]}", "clusters[0].name"},
        {"{\"clusters\": [" ENTRY("a\\u0000b", "s", "/m") "]}", "line 1"},
        {"{\"clusters\": [" ENTRY("a", "0123456789012345678901234567890x", "/m") "]}",
         "clusters[0].storage"},
        {"{\"clusters\": [{\"name\":\"a\",\"storage\":7,\"mount\":\"/m\"}]}",
         "clusters[0].storage"},
        {"{\"clusters\": [" ENTRY("a", "s", "m") "]}", "clusters[0].mount"},
        {"{\"clusters\": [" ENTRY("a", "s", "/") "]}", "clusters[0].mount"},
        {"{\"clusters\": [" ENTRY("a", "s", "/m/..") "]}", "clusters[0].mount"},
        {"{\"clusters\": [{\"name\":\"a\",\"storage\":\"s\",\"mount\":\"/m\",\"hosts\":\"h\"}]}",
         "clusters[0].hosts"},
        {"{\"clusters\": "
         "[{\"name\":\"a\",\"storage\":\"s\",\"mount\":\"/m\",\"hosts\":[\"h\",1]}]}",
         "clusters[0].hosts[1]"},
        {"{\"clusters\": [{\"name\":\"a\",\"storage\":\"s\",\"mount\":\"/m\",\"hosts\":[\"\"]}]}",
         "clusters[0].hosts[0]"},
        {"{\"clusters\": [{\"name\":\"a\",\"storage\":\"s\",\"mount\":\"/m\","
         "\"hosts\":[\"a b\"]}]}",
         "clusters[0].hosts[0]"},
    };
    size_t i;

    (void)state;
    for (i = 0; i < ARRAY_LEN(rows); i++) {
        struct clusters c = {0};

        if (clusters_parse("the-file", rows[i].text, strlen(rows[i].text), &c) != CISTERN_ECLUSTER)
            fail_msg("%s is taken", rows[i].text);
        if (strncmp(err_text(), "the-file: ", 10) != 0 || !strstr(err_text(), rows[i].says))
            fail_msg("%s: \"%s\" does not say \"%s\"", rows[i].text, err_text(), rows[i].says);
        assert_null(c.json);
    }
}

static void test_nesting_and_length_have_bounds(void **state)
{
    static char deep[100000], path[700];
    struct cistern_options o = {.size = sizeof o, .clusters = file};
    struct cistern_cluster x = {.size = sizeof x};
    struct clusters c = {0};
    FILE *f;
    int i;

    (void)state;
    memset(deep, '[', sizeof deep);
    assert_int_equal(clusters_parse("f", deep, sizeof deep, &c), CISTERN_ECLUSTER);
    memset(path, 'm', sizeof path - 1);
    path[0] = '/';
    (void)snprintf(deep, sizeof deep,
                   "{\"clusters\": [{\"name\":\"a\",\"storage\":\"s\",\"mount\":\"%s\"}]}", path);
    assert_int_equal(clusters_parse("f", deep, strlen(deep), &c), CISTERN_ECLUSTER);
    f = fopen(file, "we");
    assert_non_null(f);
    for (i = 0; i < 300 * 1024; i++)
        (void)fputc(' ', f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(cistern_cluster_look(&o, &x), CISTERN_ECLUSTER);
    assert_non_null(strstr(err_text(), "longer than 256 KiB"));
}

/* A pattern of many stars must not take for ever on a name that nearly fits. */
static void test_patterns_end_in_time(void **state)
{
    static const char text[] =
        "{\"clusters\": [{\"name\":\"a\",\"storage\":\"s\",\"mount\":\"/m\",\"hosts\":"
        "[\"*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b\", \"[a\", \"[!\", \"[]\"]}]}";
    char host[254];
    struct clusters c = {0};
    const struct cluster *own;
    const char *pattern;

    (void)state;
    memset(host, 'a', sizeof host - 1);
    host[sizeof host - 1] = '\0';
    assert_int_equal(clusters_parse("f", text, strlen(text), &c), 0);
    assert_int_equal(clusters_own(&c, "f", host, NULL, &own, &pattern), 0);
    assert_null(own);
    clusters_release(&c);
}

/* ---- The cluster of a host ---- */

static void own_is(const char *host, const char *named, const char *want, const char *because)
{
    const struct cluster *own = NULL;
    const char *pattern = NULL;
    struct clusters c = {0};

    assert_int_equal(clusters_parse("f", good, strlen(good), &c), 0);
    assert_int_equal(clusters_own(&c, "f", host, named, &own, &pattern), 0);
    if (!want)
        assert_null(own);
    else
        assert_string_equal(own->name, want);
    if (!because)
        assert_null(pattern);
    else
        assert_string_equal(pattern, because);
    clusters_release(&c);
}

static void test_a_host_has_one_cluster(void **state)
{
    (void)state;
    own_is("web-17", NULL, "na61", "web-1*");
    own_is("WEB-17.example", NULL, "na61", "web-1*");
    own_is("gpu-37", NULL, "na61", "gpu-[0-4]?");
    own_is("gpu-57", NULL, NULL, NULL);
    own_is("web-2", NULL, "na175", "web-2*");
    own_is("web-17", "na175", "na175", NULL); /* a name goes before patterns */
    own_is("nobody", "by-name-only", "by-name-only", NULL);
}

static void test_two_clusters_or_none_of_that_name(void **state)
{
    static const char two[] =
        "{\"clusters\": [{\"name\":\"one\",\"storage\":\"s\",\"mount\":\"/m\",\"hosts\":[\"w*\"]},"
        "{\"name\":\"two\",\"storage\":\"t\",\"mount\":\"/n\",\"hosts\":[\"x\",\"*17\"]}]}";
    const struct cluster *own = NULL;
    const char *pattern = NULL;
    struct clusters c = {0};

    (void)state;
    assert_int_equal(clusters_parse("f", two, strlen(two), &c), 0);
    assert_int_equal(clusters_own(&c, "f", "w17", NULL, &own, &pattern), CISTERN_ECLUSTER);
    assert_non_null(strstr(err_text(), "one by pattern w*"));
    assert_non_null(strstr(err_text(), "two by *17"));
    assert_non_null(strstr(err_text(), "CISTERN_CLUSTER=one"));
    assert_int_equal(clusters_own(&c, "f", "w17", "two", &own, &pattern), 0);
    assert_string_equal(own->name, "two");
    assert_int_equal(clusters_own(&c, "f", "w17", "three", &own, &pattern), CISTERN_ECLUSTER);
    assert_non_null(strstr(err_text(), "no network cluster three"));
    clusters_release(&c);
}

/* ---- Whose storage a path is ---- */

static void test_paths_are_made_plain(void **state)
{
    static const char *const rows[][3] = {
        {"/3fs/a/", "rtp_llm/", "/3fs/a/rtp_llm"},
        {"/3fs//a", ".", "/3fs/a"},
        {"/3fs/b/../a", "r", "/3fs/a/r"},
        {"/", "", "/"},
        {"/../..", "", "/"},
        {"/a/b/../../..", "c", "/c"},
        {"/...", "..c", "/.../..c"},
    };
    char out[64];
    size_t i;

    (void)state;
    for (i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(cluster_path(rows[i][0], rows[i][1], out, sizeof out), 0);
        assert_string_equal(out, rows[i][2]);
    }
    assert_int_equal(cluster_path("/1234567", "", out, 8), -ENAMETOOLONG);
    assert_int_equal(cluster_path("/123456", "", out, 8), 0);
}

static void test_verdicts(void **state)
{
    static const struct {
        const char *own, *storage, *path, *mounted;
        int cross;
        uint32_t verdict;
        const char *other;
    } rows[] = {
        {"na61", "stor-a", "/3fs/a/rtp_llm", "", 0, CISTERN_CLUSTER_OWN, ""},
        {"na61", "stor-a", "/3fs/a", "", 0, CISTERN_CLUSTER_OWN, ""},
        {"same", "stor-d", "/3fs/a/r", "", 0, CISTERN_CLUSTER_OWN, ""}, /* one path, two hosts */
        {"na61", "stor-a", "/3fs/ab/r", "", 0, CISTERN_CLUSTER_ELSEWHERE, ""},
        {"na61", "stor-a", "/3fs", "", 0, CISTERN_CLUSTER_ELSEWHERE, ""},
        {"na61", "stor-a", "/data/r", "", 0, CISTERN_CLUSTER_ELSEWHERE, ""},
        {"", "", "/data/r", "", 0, CISTERN_CLUSTER_ELSEWHERE, ""},
        {"na61", "stor-a", "/3fs/b/r", "", 0, CISTERN_CLUSTER_REFUSED, "na175"},
        {"na61", "stor-a", "/3fs/b/r", "", 1, CISTERN_CLUSTER_CROSSED, "na175"},
        {"na175", "stor-b", "/3fs/b/c/r", "", 0, CISTERN_CLUSTER_REFUSED, "deep"},
        {"deep", "stor-c", "/3fs/b/c/r", "", 0, CISTERN_CLUSTER_OWN, ""},
        {"", "", "/3fs/b/r", "", 0, CISTERN_CLUSTER_REFUSED, "na175"},
        {"", "", "", "", 0, CISTERN_CLUSTER_UNKNOWN, ""},
        /* the kernel knows better than the file */
        {"na61", "stor-a", "/3fs/a/r", "stor-a", 0, CISTERN_CLUSTER_OWN, ""},
        {"na61", "stor-a", "/3fs/a/r", "stor-b", 0, CISTERN_CLUSTER_REFUSED, "na175"},
        {"na61", "stor-a", "/data/r", "stor-a", 0, CISTERN_CLUSTER_OWN, ""},
        {"na61", "stor-a", "/data/r", "stor-b", 1, CISTERN_CLUSTER_CROSSED, "na175"},
        {"na61", "stor-a", "/data/r", "stor-x", 0, CISTERN_CLUSTER_REFUSED, ""},
        {"", "", "/data/r", "stor-x", 0, CISTERN_CLUSTER_ELSEWHERE, ""},
    };
    struct clusters c = {0};
    size_t i;

    (void)state;
    assert_int_equal(clusters_parse("f", good, strlen(good), &c), 0);
    for (i = 0; i < ARRAY_LEN(rows); i++) {
        struct cistern_cluster x = {.size = sizeof x, .file = "f", .host = "h", .mount = "/m"};

        (void)snprintf(x.name, sizeof x.name, "%s", rows[i].own);
        (void)snprintf(x.storage, sizeof x.storage, "%s", rows[i].storage);
        (void)snprintf(x.path, sizeof x.path, "%s", rows[i].path);
        (void)snprintf(x.mounted, sizeof x.mounted, "%s", rows[i].mounted);
        clusters_judge(&c, rows[i].cross, &x);
        if (x.verdict != rows[i].verdict || strcmp(x.other, rows[i].other) != 0)
            fail_msg("row %zu: verdict %u, other \"%s\": %s", i, x.verdict, x.other, x.text);
        assert_true(x.text[0]);
        if (x.verdict == CISTERN_CLUSTER_REFUSED && rows[i].own[0]) {
            assert_non_null(strstr(x.text, rows[i].own));
            assert_non_null(strstr(x.text, rows[i].other));
            assert_non_null(strstr(x.text, "CISTERN_CROSS_CLUSTER=1"));
        }
    }
    clusters_release(&c);
}

/* The longest names still leave room for what is to be done. */
static void test_long_names_leave_the_advice(void **state)
{
    struct clusters c = {0};
    struct cistern_cluster x = {.size = sizeof x};

    (void)state;
    assert_int_equal(clusters_parse("f", good, strlen(good), &c), 0);
    memset(x.name, 'n', sizeof x.name - 1);
    memset(x.storage, 's', sizeof x.storage - 1);
    memset(x.host, 'h', sizeof x.host - 1);
    memset(x.pattern, 'p', sizeof x.pattern - 1);
    memset(x.mounted, 'z', sizeof x.mounted - 1);
    memset(x.path, '/', sizeof x.path - 1);
    memset(x.mount, '/', sizeof x.mount - 1);
    clusters_judge(&c, false, &x);
    assert_int_equal(x.verdict, CISTERN_CLUSTER_REFUSED);
    assert_non_null(strstr(x.text, "CISTERN_CROSS_CLUSTER=1"));
    clusters_release(&c);
}

/* ---- What the kernel says ---- */

static void test_mountinfo(void **state)
{
    static const char info[] =
        "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "40 21 0:50 / /3fs/a rw - fuse.hf3fs hf3fs.stor-a rw\n"
        "41 21 0:51 /sub /3fs/with\\040space rw master:3 - fuse.hf3fs hf3fs.stor-s rw\n"
        "42 40 0:52 / /3fs/a/inner rw - tmpfs tmpfs rw\n"
        "43 21 0:53 / /twice rw - fuse.hf3fs hf3fs.below rw\n"
        "44 43 0:54 / /twice rw - fuse.hf3fs hf3fs.above rw\n"
        "short line\n"
        "45 21 0:55 / /long rw - fuse.hf3fs hf3fs.0123456789012345678901234567890123456789 rw\n";
    static const char *const rows[][2] = {
        {"/3fs/a", "stor-a"},
        {"/3fs/a/rtp_llm", "stor-a"},
        {"/3fs/ab", ""},
        {"/3fs/a/inner/r", ""},
        {"/3fs/a/inne", "stor-a"},
        {"/3fs/with space/r", "stor-s"},
        {"/3fs/with\\040space/r", ""},
        {"/twice/r", "above"},
        {"/", ""},
        {"/long", ""},
    };
    char id[32];
    size_t i;

    (void)state;
    for (i = 0; i < ARRAY_LEN(rows); i++) {
        mounted_3fs_in(info, rows[i][0], id, sizeof id);
        if (strcmp(id, rows[i][1]) != 0)
            fail_msg("%s: \"%s\"", rows[i][0], id);
    }
    mounted_3fs_in("", "/", id, sizeof id);
    assert_string_equal(id, "");
    assert_int_equal(mounted_3fs("/", id, sizeof id), 0);
}

/* ---- Options ---- */

static int make(struct cistern_options *o, struct config *c)
{
    o->size = sizeof *o;
    return config_make(o, 0, c);
}

static void test_the_mount_is_derived_or_refused(void **state)
{
    struct cistern_options o = {.clusters = file, .host = "web-17"};
    struct config c;

    (void)state;
    file_write(good);
    assert_int_equal(make(&o, &c), 0);
    assert_string_equal(c.mount, "/3fs/a");
    assert_string_equal(c.root, "rtp_llm");
    assert_string_equal(c.cluster, "na61");
    o.cluster = "na175";
    assert_int_equal(make(&o, &c), 0);
    assert_string_equal(c.mount, "/3fs/b");
    o.mount = "/3fs/a";
    assert_int_equal(make(&o, &c), CISTERN_ECLUSTER);
    assert_non_null(strstr(err_text(), "na61"));
    assert_non_null(strstr(err_text(), "na175"));
    o.cross_cluster = -1;
    assert_int_equal(make(&o, &c), CISTERN_ECLUSTER);
    o.cross_cluster = 1;
    assert_int_equal(make(&o, &c), 0);
    assert_int_equal(c.cluster_verdict, CISTERN_CLUSTER_CROSSED);
    /* by the root alone */
    o = (struct cistern_options){
        .clusters = file, .host = "web-17", .mount = "/3fs", .root = "b/r"};
    assert_int_equal(make(&o, &c), CISTERN_ECLUSTER);
    o.root = "a/r";
    assert_int_equal(make(&o, &c), 0);
    /* a host that no pattern fits */
    o = (struct cistern_options){.clusters = file, .host = "nobody"};
    assert_int_equal(make(&o, &c), CISTERN_ECLUSTER);
    assert_non_null(strstr(err_text(), "nobody"));
    o.mount = "/data";
    assert_int_equal(make(&o, &c), 0);
}

static void test_without_a_file(void **state)
{
    struct cistern_options o = {.clusters = "", .host = "h"};
    struct cistern_cluster x = {.size = sizeof x};
    struct config c;

    (void)state;
    assert_int_equal(make(&o, &c), 0);
    assert_string_equal(c.mount, "/3fs/stage/3fs");
    assert_int_equal(c.cluster_verdict, CISTERN_CLUSTER_NONE);
    assert_int_equal(cistern_cluster_look(&o, &x), 0);
    assert_int_equal(x.verdict, CISTERN_CLUSTER_NONE);
    o.cluster = "na61";
    assert_int_equal(make(&o, &c), CISTERN_ECLUSTER);
    o = (struct cistern_options){.clusters = "/nonexistent/clusters.json"};
    assert_int_equal(make(&o, &c), CISTERN_ECLUSTER);
    assert_non_null(strstr(err_text(), "/nonexistent/clusters.json"));
    o.clusters = "/tmp"; /* a directory */
    assert_int_equal(make(&o, &c), CISTERN_ECLUSTER);
    o.clusters = "/dev/null";
    assert_int_equal(make(&o, &c), CISTERN_ECLUSTER);
}

static int count(void *arg, const struct cistern_cluster_entry *e)
{
    unsigned *n = arg;

    *n += e->npatterns;
    return strcmp(e->name, "deep") == 0 ? 7 : 0;
}

static void test_the_list(void **state)
{
    struct cistern_options o = {.size = sizeof o, .clusters = file};
    unsigned n = 0;

    (void)state;
    file_write(good);
    assert_int_equal(cistern_cluster_list(&o, count, &n), 7);
    assert_int_equal(n, 4);
    assert_int_equal(cistern_cluster_list(&o, NULL, NULL), -EINVAL);
    o.clusters = "";
    assert_int_equal(cistern_cluster_list(&o, count, &n), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_good_file),
        cmocka_unit_test(test_bad_files_are_refused_with_the_place),
        cmocka_unit_test(test_nesting_and_length_have_bounds),
        cmocka_unit_test(test_patterns_end_in_time),
        cmocka_unit_test(test_a_host_has_one_cluster),
        cmocka_unit_test(test_two_clusters_or_none_of_that_name),
        cmocka_unit_test(test_paths_are_made_plain),
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_long_names_leave_the_advice),
        cmocka_unit_test(test_mountinfo),
        cmocka_unit_test(test_the_mount_is_derived_or_refused),
        cmocka_unit_test(test_without_a_file),
        cmocka_unit_test(test_the_list),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
