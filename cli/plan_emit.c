/*
 * plan_emit.c - the container configuration of RTP-LLM as JSON, and files for Docker and systemd;
 * plan_emit_k8s.c has Kubernetes and Helm.
 *
 * All of them say the same: /dev/shm of the planned size, memory not below it, the storage mounted
 * so that a client that is restarted on the host is seen inside, the switches on, and not on a node
 * that serves the same storage.
 */
#include "plan_emit.h"

#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "json_out.h"
#include "plan_emit_k8s.h"

#define GIB           (UINT64_C(1) << 30)
#define MIB           (UINT64_C(1) << 20)
#define PLAN_CAPACITY "CISTERN_CAPACITY_BYTES"
#define SERVED        "/3fs/"   /* where the FUSE service mounts */
#define STAGING       (4 * GIB) /* what an engine takes for a direction when nobody says */

size_t plan_env(const struct plan_input *in, const struct plan_sizes *s,
                struct plan_env out[PLAN_ENV])
{
    size_t n = 0;

    if (in->read_staging != STAGING)
        out[n++] = (struct plan_env){"THREEFS_READ_IOV_SIZE", in->read_staging};
    if (in->write_staging != STAGING)
        out[n++] = (struct plan_env){"THREEFS_WRITE_IOV_SIZE", in->write_staging};
    if (s->capacity > 0)
        out[n++] = (struct plan_env){PLAN_CAPACITY, (unsigned long long)s->capacity};
    return n;
}

/* What is mounted from the host: the directory above the 3FS mount, which comes and goes in it. */
void plan_shared_dir(const char *mount, char *out, size_t size)
{
    size_t n = strlen(mount);

    while (n > 1 && mount[n - 1] == '/')
        n--;
    while (n > 1 && mount[n - 1] != '/')
        n--;
    (void)snprintf(out, size, "%.*s", (int)(n > 1 ? n : strlen(mount)), mount);
}

bool plan_mount_is_served(const char *shared)
{
    return strncmp(shared, SERVED, strlen(SERVED)) == 0;
}

/* The directory above the mount goes into a container, so there has to be one. */
static int check_mount(const char *kind, const char *mount)
{
    const char *at = mount;
    unsigned parts = 0;
    size_t n;

    if (strcmp(kind, "systemd") == 0)
        return CLI_OK;
    while (*(at += strspn(at, "/"))) {
        n = strcspn(at, "/");
        if (at[0] == '.' && (n == 1 || (n == 2 && at[1] == '.')))
            return cli_fail(CLI_USAGE, "--mount %s: without . and ..", mount);
        at += n;
        parts++;
    }
    if (parts > 1 || (parts && strcmp(kind, "docker") == 0))
        return CLI_OK;
    return cli_fail(CLI_USAGE,
                    "--mount %s: a container gets the directory above the mount, so that a mount "
                    "that comes later is seen in it; mount below one, such as /kv/3fs",
                    mount);
}

static json_t *text_of(const char *prefix, json_t *value)
{
    char *dump = json_dumps(value, JSON_COMPACT | JSON_PRESERVE_ORDER), buf[2048];
    json_t *out = NULL;

    if (dump && snprintf(buf, sizeof(buf), "%s=%s", prefix, dump) < (int)sizeof(buf))
        out = json_string(buf);
    free(dump);
    json_decref(value);
    return out;
}

static json_t *storage_volume(const char *shared)
{
    return plan_mount_is_served(shared)
               ? json_pack("{s:s, s:{}}", "name", "shared-mountpoint", "emptyDir")
               : json_pack("{s:s, s:{s:s, s:s}}", "name", "shared-mountpoint", "hostPath", "path",
                           shared, "type", "Directory");
}

static json_t *container_configs(const struct plan_place *p, const struct plan_sizes *s)
{
    char shared[1024], size[32];

    plan_shared_dir(p->mount, shared, sizeof(shared));
    (void)snprintf(size, sizeof(size), "%lluGi", (unsigned long long)(s->shm / GIB));
    return json_pack("[o, o]",
                     text_of("JSON_VOLUME_MOUNTS",
                             json_pack("[{s:s, s:s}, {s:s, s:s, s:s}]", "mountPath", "/dev/shm",
                                       "name", "shm-vol", "mountPath", shared, "name",
                                       "shared-mountpoint", "mountPropagation", "HostToContainer")),
                     text_of("JSON_VOLUMES", json_pack("[{s:s, s:{s:s, s:s}}, o]", "name",
                                                       "shm-vol", "emptyDir", "medium", "Memory",
                                                       "sizeLimit", size, storage_volume(shared))));
}

/* By RTP-LLM's own names. The capacity is for who makes the root, and its page has none. */
static json_t *rtp_env(const struct plan_place *p, const struct plan_input *in,
                       const struct plan_sizes *s)
{
    json_t *o = json_pack("{s:s, s:s}", "REUSE_CACHE", "1", "ENABLE_3FS", "1");
    struct plan_env env[PLAN_ENV];
    size_t i, n = plan_env(in, s, env);
    char value[32];

    if (strcmp(p->mount, PLAN_MOUNT) != 0)
        json_out_text(o, "THREEFS_MOUNTPOINT", p->mount);
    if (strcmp(p->root, PLAN_ROOT) != 0)
        json_out_text(o, "THREEFS_ROOT_DIR", p->root);
    for (i = 0; i < n && strcmp(env[i].name, PLAN_CAPACITY) != 0; i++) {
        (void)snprintf(value, sizeof(value), "%llu", env[i].value);
        json_out_text(o, env[i].name, value);
    }
    return o;
}

static int emit_rtp(const struct plan_place *p, const struct plan_input *in,
                    const struct plan_sizes *s)
{
    char release[256], memory[32];

    (void)snprintf(release, sizeof(release), "storage.3fs.release=%s", p->storage_release);
    (void)snprintf(memory, sizeof(memory), "%lluGi",
                   (unsigned long long)((s->memory + GIB - 1) / GIB));
    return json_out_print(json_pack(
        "{s:o, s:[{s:s, s:s}], s:[{s:s, s:s, s:i}], s:o, s:s, s:s}", "container_configs",
        container_configs(p, s), "meta_tag_list", "key", "alibabacloud.com/fuse-service", "value",
        p->fuse_service, "labels", "name", release, "type", "PROHIBIT_TEXT", "amount", 0, "env",
        rtp_env(p, in, s), "args", "--reuse_cache True --enable_3fs True", "memory", memory));
}

static int emit_docker(const struct plan_place *p, const struct plan_input *in,
                       const struct plan_sizes *s)
{
    struct plan_env env[PLAN_ENV];
    size_t i, n = plan_env(in, s, env);
    char shared[1024];

    plan_shared_dir(p->mount, shared, sizeof(shared));
    printf("# docker compose -f THIS up\n"
           "services:\n"
           "  \"%s\":\n"
           "    image: \"%s\"\n"
           "    environment:\n"
           "      REUSE_CACHE: \"1\"\n"
           "      ENABLE_3FS: \"1\"\n"
           "      CISTERN_MOUNT: \"%s\"\n"
           "      CISTERN_ROOT: \"%s\"\n",
           p->name, p->image, p->mount, p->root);
    for (i = 0; i < n; i++)
        printf("      %s: \"%llu\"\n", env[i].name, env[i].value);
    printf("    shm_size: \"%llum\"\n"
           "    mem_limit: \"%llum\"\n"
           "    ulimits:\n"
           "      memlock: -1\n"
           "      nofile: 1048576\n"
           "    deploy:\n"
           "      resources:\n"
           "        reservations:\n"
           "          devices:\n"
           "            - {driver: nvidia, count: %llu, capabilities: [gpu]}\n"
           "    volumes:\n"
           "      - type: bind\n"
           "        source: \"%s\"\n"
           "        target: \"%s\"\n"
           "        bind:\n"
           "          propagation: rslave\n",
           (unsigned long long)(s->shm / MIB), (unsigned long long)(s->memory / MIB),
           (unsigned long long)in->tp, shared, shared);
    return CLI_OK;
}

static int emit_systemd(const struct plan_place *p, const struct plan_input *in,
                        const struct plan_sizes *s)
{
    struct plan_env env[PLAN_ENV];
    size_t i, n = plan_env(in, s, env);

    printf(
        "# /etc/systemd/system/%s.service; ExecStart= is yours to write.\n"
        "# /dev/shm of a host is half of its memory unless /etc/fstab says otherwise; it needs:\n"
        "#   tmpfs /dev/shm tmpfs rw,nosuid,nodev,size=%lluM 0 0\n"
        "[Unit]\n"
        "Description=%s with a KV cache on 3FS\n"
        "RequiresMountsFor=%s\n"
        "After=network-online.target\n"
        "Wants=network-online.target\n"
        "\n"
        "[Service]\n"
        "Environment=REUSE_CACHE=1 ENABLE_3FS=1\n"
        "Environment=CISTERN_MOUNT=%s CISTERN_ROOT=%s\n",
        p->name, (unsigned long long)(s->shm / MIB), p->name, p->mount, p->mount, p->root);
    for (i = 0; i < n; i++)
        printf("Environment=%s=%llu\n", env[i].name, env[i].value);
    printf(
        "ExecStart=/usr/bin/env sh -c 'echo \"write the command of the engine here\" >&2; exit 1'\n"
        "LimitMEMLOCK=infinity\n"
        "LimitNOFILE=1048576\n"
        "MemoryMax=%lluM\n"
        "TimeoutStopSec=30\n"
        "Restart=on-failure\n"
        "\n"
        "[Install]\n"
        "WantedBy=multi-user.target\n",
        (unsigned long long)(s->memory / MIB));
    return CLI_OK;
}

int plan_emit(const char *kind, const struct plan_place *p, const struct plan_model *m,
              const struct plan_input *in, const struct plan_sizes *s)
{
    int r = check_mount(kind, p->mount);

    if (r != CLI_OK)
        return r;
    if (strcmp(kind, "rtp") == 0)
        return emit_rtp(p, in, s);
    if (strcmp(kind, "k8s") == 0)
        return plan_emit_k8s(p, m, in, s);
    if (strcmp(kind, "helm") == 0)
        return plan_emit_helm(p, m, in, s);
    if (strcmp(kind, "docker") == 0)
        return emit_docker(p, in, s);
    if (strcmp(kind, "systemd") == 0)
        return emit_systemd(p, in, s);
    return cli_fail(CLI_USAGE, "--emit %s: rtp, k8s, helm, docker and systemd are known", kind);
}
