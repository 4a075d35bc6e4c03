/*
 * plan_emit_k8s.c - see plan_emit_k8s.h.
 *
 * The claim of a Pod on memory: a memory-backed emptyDir counts against the container's limit, so
 * the limit is the planned memory, and the request is the same, or the node may lack it later. A
 * GPU for each rank. The storage: below /3fs/ the FUSE service, which the label brings, mounts into
 * an empty directory; any other mount is the node's own, and without one the Pod must not start.
 * HostToContainer: when the 3FS client on the host is restarted it mounts anew,
 * and the Pod must see that. Anti-affinity: reading from a storage daemon on the same node goes
 * through the RDMA card and back.
 */
#include "plan_emit_k8s.h"

#include <ctype.h>
#include <string.h>

#include "cli.h"

#define GIB (UINT64_C(1) << 30)

static unsigned long long gib(uint64_t bytes)
{
    return (unsigned long long)((bytes + GIB - 1) / GIB);
}

#define NAME_MOST 52 /* of a StatefulSet, whose Pods and their labels add to it */

/* Names of Kubernetes: lower case, digits and dashes, a letter in front. Quoted everywhere: true is
 * such a name, and 1e3 would be none. */
static int dns_name(const char *name, char out[NAME_MOST + 1])
{
    const char *from = name;
    size_t n = 0;

    for (; *from && n < NAME_MOST; from++) {
        if (isalnum((unsigned char)*from))
            out[n++] = (char)tolower((unsigned char)*from);
        else if (n && out[n - 1] != '-')
            out[n++] = '-';
    }
    while (n && out[n - 1] == '-')
        n--;
    out[n] = '\0';
    return isalpha((unsigned char)out[0])
               ? CLI_OK
               : cli_fail(CLI_USAGE, "--name %s: Kubernetes wants a letter in front", name);
}

/* Parts that a Pod and a chart's values have in common; `in` is how far they are indented. */

/* All ranks of the Pod share its /dev/shm, and that outlives its containers: what a killed engine
 * left there would fail the probe of the next one for ever. Storage is not asked, neither here nor
 * later on: an engine without it computes, and to keep all of them from starting, to restart them
 * or to send them no requests would make an outage of it. Nor is CUDA, as that takes memory of a
 * GPU that the engine is measuring. All of these checks together, each at its limit, end before the
 * probe does. */
static void print_probe(int in, uint64_t tp)
{
    unsigned long long ranks = (unsigned long long)tp;

    printf(
        "%*s# All checks, those of storage too, by hand: kubectl exec POD -- cistern doctor --tp "
        "%llu\n",
        in, "", ranks);
    printf("%*sstartupProbe:\n", in, "");
    printf("%*s  exec: {command: [\"cistern\", \"doctor\", \"--quiet\", \"--clean\", \"--only\", "
           "\"switches,shm-size,shm-free,shm-stale,memory\", \"--timeout\", \"2000\", \"--tp\", "
           "\"%llu\"]}\n",
           in, "", ranks);
    printf("%*s  periodSeconds: 10\n", in, "");
    printf("%*s  timeoutSeconds: 20\n", in, "");
    printf("%*s  failureThreshold: 60\n", in, "");
}

/* A Pod's host name says nothing of the network cluster that its node is in. */
static void print_host(int in)
{
    printf("%*s- {name: CISTERN_HOST, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}\n", in,
           "");
}

static void print_affinity(int in, const char *release)
{
    printf("%*saffinity:\n", in, "");
    printf("%*s  podAntiAffinity:\n", in, "");
    printf("%*s    requiredDuringSchedulingIgnoredDuringExecution:\n", in, "");
    printf("%*s      - topologyKey: kubernetes.io/hostname\n", in, "");
    printf("%*s        namespaceSelector: {}\n", in, "");
    printf("%*s        labelSelector:\n", in, "");
    printf("%*s          matchLabels: {storage.3fs.release: \"%s\"}\n", in, "", release);
}

static void print_volumes(int in, const struct plan_sizes *s, const char *shared)
{
    printf("%*svolumes:\n", in, "");
    printf("%*s  - name: shm-vol\n", in, "");
    printf("%*s    emptyDir: {medium: Memory, sizeLimit: %lluGi}\n", in, "", gib(s->shm));
    printf("%*s  - name: shared-mountpoint\n", in, "");
    if (plan_mount_is_served(shared))
        printf("%*s    emptyDir: {}\n", in, "");
    else
        printf("%*s    hostPath: {path: \"%s\", type: Directory}\n", in, "", shared);
}

static void print_mounts(int in, const char *shared)
{
    printf("%*svolumeMounts:\n", in, "");
    printf("%*s  - {name: shm-vol, mountPath: /dev/shm}\n", in, "");
    printf("%*s  - {name: shared-mountpoint, mountPath: \"%s\", mountPropagation: "
           "HostToContainer}\n",
           in, "", shared);
}

static void print_container(const struct plan_place *p, const struct plan_input *in,
                            const struct plan_sizes *s, const char *name, const char *shared)
{
    struct plan_env env[PLAN_ENV];
    size_t i, n = plan_env(in, s, env);

    printf("        - name: \"%s\"\n"
           "          image: \"%s\"\n"
           "          env:\n"
           "            - {name: REUSE_CACHE, value: \"1\"}\n"
           "            - {name: ENABLE_3FS, value: \"1\"}\n"
           "            - {name: CISTERN_MOUNT, value: \"%s\"}\n"
           "            - {name: CISTERN_ROOT, value: \"%s\"}\n",
           name, p->image, p->mount, p->root);
    for (i = 0; i < n; i++)
        printf("            - {name: %s, value: \"%llu\"}\n", env[i].name, env[i].value);
    print_host(12);
    printf("          resources:\n"
           "            requests: {memory: %lluGi}\n"
           "            limits: {memory: %lluGi, nvidia.com/gpu: %llu}\n",
           gib(s->memory), gib(s->memory), (unsigned long long)in->tp);
    print_probe(10, in->tp);
    print_mounts(10, shared);
}

int plan_emit_k8s(const struct plan_place *p, const struct plan_model *m,
                  const struct plan_input *in, const struct plan_sizes *s)
{
    char name[NAME_MOST + 1], shared[1024];
    int r = dns_name(p->name, name);

    if (r != CLI_OK)
        return r;
    plan_shared_dir(p->mount, shared, sizeof(shared));
    printf("# %s%s%s, %llu ranks: %lluGi of /dev/shm\n"
           "apiVersion: apps/v1\n"
           "kind: StatefulSet\n"
           "metadata:\n"
           "  name: \"%s\"\n"
           "spec:\n"
           "  serviceName: \"%s\"\n"
           "  replicas: 1\n"
           "  selector:\n"
           "    matchLabels: {app: \"%s\"}\n"
           "  template:\n"
           "    metadata:\n"
           "      labels:\n"
           "        app: \"%s\"\n"
           "        alibabacloud.com/fuse-service: \"%s\"\n"
           "    spec:\n",
           m->name, m->dtype[0] ? ", " : "", m->dtype, (unsigned long long)in->tp, gib(s->shm),
           name, name, name, name, p->fuse_service);
    print_affinity(6, p->storage_release);
    printf("      terminationGracePeriodSeconds: 30\n"
           "      containers:\n");
    print_container(p, in, s, name, shared);
    print_volumes(6, s, shared);
    return CLI_OK;
}

int plan_emit_helm(const struct plan_place *p, const struct plan_model *m,
                   const struct plan_input *in, const struct plan_sizes *s)
{
    struct plan_env env[PLAN_ENV];
    size_t i, n = plan_env(in, s, env);
    char name[NAME_MOST + 1], shared[1024];
    int r = dns_name(p->name, name);

    if (r != CLI_OK)
        return r;
    plan_shared_dir(p->mount, shared, sizeof(shared));
    printf("# values.yaml: %s%s%s, %llu ranks\n"
           "fullnameOverride: \"%s\"\n"
           "image: \"%s\"\n"
           "podLabels:\n"
           "  alibabacloud.com/fuse-service: \"%s\"\n"
           "env:\n"
           "  REUSE_CACHE: \"1\"\n"
           "  ENABLE_3FS: \"1\"\n"
           "  CISTERN_MOUNT: \"%s\"\n"
           "  CISTERN_ROOT: \"%s\"\n",
           m->name, m->dtype[0] ? ", " : "", m->dtype, (unsigned long long)in->tp, name, p->image,
           p->fuse_service, p->mount, p->root);
    for (i = 0; i < n; i++)
        printf("  %s: \"%llu\"\n", env[i].name, env[i].value);
    printf("extraEnv:\n");
    print_host(2);
    printf("resources:\n"
           "  requests: {memory: %lluGi}\n"
           "  limits: {memory: %lluGi, nvidia.com/gpu: %llu}\n",
           gib(s->memory), gib(s->memory), (unsigned long long)in->tp);
    print_affinity(0, p->storage_release);
    print_volumes(0, s, shared);
    print_mounts(0, shared);
    print_probe(0, in->tp);
    return CLI_OK;
}
