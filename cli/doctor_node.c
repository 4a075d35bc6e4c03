/*
 * doctor_node.c - checks of what is around: switches, mount propagation, daemons on this node,
 * RDMA, CUDA.
 */
#include <ctype.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "doctor.h"

#define NO_DEVICE 100 /* of cuInit() */

void check_switches(const struct doctor *d, struct doctor_finding *f)
{
    bool reuse = d->options.reuse_cache > 0, on = d->options.enable_3fs > 0;

    if (d->options_rc) {
        doctor_say(f, DOCTOR_FAIL, "%s", d->options_text);
        doctor_mend(f, "correct the variable that is named");
    } else if (on && !reuse) {
        doctor_say(f, DOCTOR_FAIL,
                   "ENABLE_3FS is on and REUSE_CACHE is not: the engine will refuse "
                   "to start");
        doctor_mend(f, "export REUSE_CACHE=1 ENABLE_3FS=1");
    } else if (!on) {
        doctor_say(f, DOCTOR_WARN, "the second tier is switched off%s",
                   reuse ? "; only the engine's own cache is on" : "");
        doctor_mend(f, "export REUSE_CACHE=1 ENABLE_3FS=1");
    } else {
        doctor_say(f, DOCTOR_PASS, "REUSE_CACHE and ENABLE_3FS are on");
    }
}

void check_propagation(const struct doctor *d, struct doctor_finding *f)
{
    const char *where = doctor_container(d);
    const char *wanted = d->options.provider ? d->options.provider : "auto";
    struct doctor_mount m;
    char above[PATH_MAX], real[PATH_MAX], *slash;
    int rc;

    if (!where) {
        doctor_say(f, DOCTOR_PASS, "this is not a container: mounts of the host are seen at once");
        return;
    }
    /* 3FS comes and goes inside the directory that was mounted into the container. */
    if (doctor_real(d, d->mount, above) != 0)
        (void)snprintf(above, sizeof(above), "%s", d->mount);
    if ((slash = strrchr(above, '/')) && slash != above)
        *slash = '\0';
    if ((rc = doctor_real(d, above, real)) || (rc = doctor_mount_of(d, real, &m))) {
        doctor_say(f, DOCTOR_UNKNOWN, "how %s is mounted cannot be seen: %s", above, strerror(-rc));
    } else if (strstr(m.optional, "master:")) {
        doctor_say(f, DOCTOR_PASS, "%s follows the host's mounts", m.point);
    } else if (!doctor_is_3fs(&m) && strncmp(d->mount, "/3fs", 4) != 0 &&
               strcmp(wanted, "hf3fs") != 0) {
        doctor_say(f, DOCTOR_PASS, "%s is %s: no 3FS client is mounted anew in it", d->mount,
                   m.type);
    } else if (strstr(m.optional, "shared:")) {
        doctor_say(f, DOCTOR_UNKNOWN,
                   "%s shares its mounts with others; whether the host is one of them is not seen "
                   "from here",
                   m.point);
        doctor_mend(f, "to be sure: mountPropagation: HostToContainer, docker run -v %s:%s:rslave",
                    above, above);
    } else {
        doctor_say(f, DOCTOR_FAIL,
                   "%s does not follow the host's mounts: when the 3FS client is "
                   "restarted there, this container keeps a dead one",
                   m.point);
        if (strcmp(where, "Kubernetes") == 0)
            doctor_mend(f,
                        "volumeMounts: {name: shared-mountpoint, mountPath: %s/, "
                        "mountPropagation: HostToContainer}",
                        above);
        else
            doctor_mend(f, "docker run -v %s:%s:rslave", above, above);
    }
}

/* ---- Daemons on this node ---- */

struct daemons {
    bool storage, kernel;
};

static void look_for_daemons(const struct doctor *d, DIR *proc, struct daemons *out)
{
    char path[64], comm[64];
    struct dirent *e;

    while ((e = readdir(proc))) {
        if (!isdigit((unsigned char)e->d_name[0]))
            continue;
        (void)snprintf(path, sizeof(path), "/proc/%.20s/comm", e->d_name);
        if (doctor_read(d, path, comm, sizeof(comm)) <= 0)
            continue;
        /* A thread of the kernel is seen from nowhere but the node's own processes. */
        out->kernel |= strcmp(comm, "kthreadd") == 0;
        out->storage |= strcmp(comm, "storage_main") == 0;
    }
}

void check_storage_node(const struct doctor *d, struct doctor_finding *f)
{
    char path[PATH_MAX];
    DIR *proc = opendir(doctor_path(d, "/proc", path));
    struct daemons n = {0};

    if (proc) {
        look_for_daemons(d, proc, &n);
        (void)closedir(proc);
    }
    if (n.storage) {
        doctor_say(f, DOCTOR_FAIL,
                   "this node runs storage_main, the storage daemon of 3FS: what the "
                   "engine reads from it goes out of the RDMA card and back in");
        doctor_mend(f, "keep the engine off storage nodes: {\"name\": \"storage.3fs.release=rtp\", "
                       "\"type\": \"PROHIBIT_TEXT\", \"amount\": 0}, or the podAntiAffinity of "
                       "`cistern plan --tp N --emit k8s`");
    } else if (!n.kernel) {
        doctor_say(f, DOCTOR_UNKNOWN, "the processes of the node cannot be seen from here");
        doctor_mend(f, "run it on the node: pgrep -x storage_main must find nothing");
    } else {
        doctor_say(f, DOCTOR_PASS, "no storage daemon of 3FS runs on this node");
    }
}

/* ---- RDMA ---- */

static void look_at_ports(const struct doctor *d, const char *device, unsigned *active,
                          unsigned *all)
{
    char path[PATH_MAX], state[64];
    struct dirent *e;
    DIR *ports;

    (void)snprintf(path, sizeof(path), "%s/sys/class/infiniband/%.64s/ports", d->sysroot, device);
    if (!(ports = opendir(path)))
        return;
    while ((e = readdir(ports))) {
        if (e->d_name[0] == '.')
            continue;
        (void)snprintf(path, sizeof(path), "/sys/class/infiniband/%.64s/ports/%.16s/state", device,
                       e->d_name);
        (*all)++;
        if (doctor_read(d, path, state, sizeof(state)) > 0 && strstr(state, "ACTIVE"))
            (*active)++;
    }
    (void)closedir(ports);
}

void check_rdma(const struct doctor *d, struct doctor_finding *f)
{
    unsigned active = 0, all = 0;
    struct doctor_mount m;
    char path[PATH_MAX];
    struct dirent *e;
    DIR *devices;
    bool real;

    if (!doctor_mount_known(d, &m, f))
        return;
    real = doctor_is_3fs(&m);
    if ((devices = opendir(doctor_path(d, "/sys/class/infiniband", path)))) {
        while ((e = readdir(devices))) {
            if (e->d_name[0] != '.')
                look_at_ports(d, e->d_name, &active, &all);
        }
        (void)closedir(devices);
    }
    if (active) {
        doctor_say(f, DOCTOR_PASS, "%u of %u RDMA ports are active", active, all);
    } else if (!real) {
        doctor_say(f, DOCTOR_PASS, "no active RDMA port, and %s needs none", m.type);
    } else if (!all && doctor_container(d)) {
        /* The engine needs none: the 3FS client does the I/O, on the host or in a sidecar. */
        doctor_say(f, DOCTOR_UNKNOWN,
                   "no RDMA device is seen in this container; that of the 3FS client, which does "
                   "the I/O, is not seen from here");
        doctor_mend(f, "run it where hf3fs_fuse_main runs: rdma link show");
    } else {
        doctor_say(f, DOCTOR_FAIL,
                   all ? "none of the %u RDMA ports is active"
                       : "no RDMA device is "
                         "seen (%u ports)",
                   all);
        doctor_mend(f, "rdma link show; load the driver (modprobe mlx5_ib) and look at the cable "
                       "and the switch");
    }
}

/* ---- CUDA ---- */

/* Pins a page of memory for the first device, as a store does with its staging. What the context
 * for it takes goes with this process. */
static int try_registration(void *lib, int *step)
{
    static _Alignas(4096) uint8_t page[4096];
    int (*retain)(void **, int) = (int (*)(void **, int))dlsym(lib, "cuDevicePrimaryCtxRetain");
    int (*push)(void *) = (int (*)(void *))dlsym(lib, "cuCtxPushCurrent_v2");
    int (*pin)(void *, size_t, unsigned) =
        (int (*)(void *, size_t, unsigned))dlsym(lib, "cuMemHostRegister_v2");
    void *context = NULL;
    int rc;

    *step = 0;
    if ((rc = retain(&context, 0)) || (rc = push(context)))
        return rc;
    *step = 1;
    return pin(page, sizeof(page), 1 /* for all contexts */);
}

static bool is_whole(void *lib)
{
    static const char *const needed[] = {"cuInit",
                                         "cuMemcpyHtoD_v2",
                                         "cuMemcpyDtoH_v2",
                                         "cuMemHostRegister_v2",
                                         "cuDevicePrimaryCtxRetain",
                                         "cuCtxPushCurrent_v2",
                                         "cuDriverGetVersion",
                                         "cuDeviceGetCount"};
    size_t i;

    for (i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
        if (!dlsym(lib, needed[i]))
            return false;
    }
    return true;
}

static void no_gpu(struct doctor_finding *f)
{
    doctor_say(f, DOCTOR_PASS, "no NVIDIA GPU here: memory of the host is used");
}

static void ask_driver(void *lib, bool card, struct doctor_finding *f)
{
    int rc, v = 0, n = 0, step;

    if (!is_whole(lib)) {
        doctor_say(f, DOCTOR_FAIL, "libcuda.so.1 lacks functions that copy to and from a GPU");
        doctor_mend(f, "install a driver of CUDA 11 or later");
        return;
    }
    rc = ((int (*)(unsigned))dlsym(lib, "cuInit"))(0);
    if (rc == NO_DEVICE && !card) {
        no_gpu(f);
        return;
    }
    if (rc != 0) {
        doctor_say(f, DOCTOR_FAIL, "the CUDA driver does not start (error %d)", rc);
        doctor_mend(f, "nvidia-smi must work here; in a container: --gpus all, and "
                       "NVIDIA_DRIVER_CAPABILITIES=compute,utility");
        return;
    }
    (void)((int (*)(int *))dlsym(lib, "cuDriverGetVersion"))(&v);
    (void)((int (*)(int *))dlsym(lib, "cuDeviceGetCount"))(&n);
    rc = try_registration(lib, &step);
    if (rc == 0) {
        doctor_say(f, DOCTOR_PASS, "CUDA driver %d.%d, %d devices; memory of the host is pinned",
                   v / 1000, v % 1000 / 10, n);
    } else if (step == 0) {
        doctor_say(f, DOCTOR_UNKNOWN,
                   "CUDA driver %d.%d, %d devices; no context could be made to try whether memory "
                   "of the host is pinned (error %d): it may be full or somebody else's",
                   v / 1000, v % 1000 / 10, n, rc);
    } else {
        doctor_say(f, DOCTOR_WARN,
                   "CUDA driver %d.%d, %d devices; memory of the host cannot be pinned (error %d): "
                   "copies to and from the GPU are slower",
                   v / 1000, v % 1000 / 10, n, rc);
        doctor_mend(f, "see the check memlock; in a virtual machine or sandbox its GPU "
                       "pass-through has to allow cuMemHostRegister");
    }
}

void check_cuda(const struct doctor *d, struct doctor_finding *f)
{
    char path[PATH_MAX];
    bool card = access(doctor_path(d, "/proc/driver/nvidia/version", path), F_OK) == 0 ||
                access(doctor_path(d, "/dev/nvidiactl", path), F_OK) == 0;
    void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

    if (lib) {
        ask_driver(lib, card, f);
    } else if (card) {
        doctor_say(f, DOCTOR_FAIL, "there is an NVIDIA GPU, and libcuda.so.1 cannot be loaded");
        doctor_mend(f,
                    "in a container: --gpus all and NVIDIA_DRIVER_CAPABILITIES=compute,utility; on "
                    "a host install the driver's library (libcuda1)");
    } else {
        no_gpu(f);
    }
}
