/*
 * doctor.c - what checks have in common: the system's small files, mounts, containers.
 */
#include "doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void doctor_say(struct doctor_finding *f, enum doctor_state state, const char *cause, ...)
{
    va_list ap;

    f->state = state;
    f->remedy[0] = '\0';
    va_start(ap, cause);
    (void)vsnprintf(f->cause, sizeof(f->cause), cause, ap);
    va_end(ap);
}

void doctor_mend(struct doctor_finding *f, const char *remedy, ...)
{
    va_list ap;

    va_start(ap, remedy);
    (void)vsnprintf(f->remedy, sizeof(f->remedy), remedy, ap);
    va_end(ap);
}

const char *doctor_path(const struct doctor *d, const char *path, char out[PATH_MAX])
{
    (void)snprintf(out, PATH_MAX, "%s%s", d->sysroot, path);
    return out;
}

long doctor_read(const struct doctor *d, const char *path, char *out, size_t size)
{
    char full[PATH_MAX];
    int fd = open(doctor_path(d, path, full), O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t n = 1;

    if (fd < 0)
        return -errno;
    while (len + 1 < size && (n = read(fd, out + len, size - 1 - len)) > 0)
        len += (size_t)n;
    n = n < 0 ? -errno : 0;
    (void)close(fd);
    if (n < 0)
        return n;
    while (len && out[len - 1] == '\n')
        len--;
    out[len] = '\0';
    return (long)len;
}

/* The kernel writes a space as \040. */
static void unescape(char *s)
{
    char *to = s;

    for (; *s; s++) {
        if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
            *to++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
            s += 3;
        } else {
            *to++ = *s;
        }
    }
    *to = '\0';
}

static bool is_below(const char *path, const char *point)
{
    size_t n = strlen(point);

    if (n && point[n - 1] == '/')
        n--;
    return strncmp(path, point, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* One line of mountinfo: id parent major:minor root point options optional... - type source super
 */
static bool take_line(char *line, const char *path, struct doctor_mount *out)
{
    char *field[5], *rest = line, *dash, *type, *source;
    int i;

    for (i = 0; i < 5; i++) {
        if (!(field[i] = strsep(&rest, " ")) || !rest)
            return false;
    }
    unescape(field[4]);
    dash = strstr(rest, " - ");
    if (!dash || !is_below(path, field[4]))
        return false;
    *dash = '\0';
    rest = strchr(rest, ' '); /* behind the options */
    (void)snprintf(out->optional, sizeof(out->optional), "%s", rest ? rest + 1 : "");
    dash += 3;
    type = strsep(&dash, " ");
    source = dash ? strsep(&dash, " ") : NULL;
    (void)snprintf(out->point, sizeof(out->point), "%s", field[4]);
    (void)snprintf(out->type, sizeof(out->type), "%s", type ? type : "");
    (void)snprintf(out->source, sizeof(out->source), "%s", source ? source : "");
    (void)snprintf(out->super, sizeof(out->super), "%s", dash ? dash : "");
    return true;
}

int doctor_mount_of(const struct doctor *d, const char *path, struct doctor_mount *out)
{
    char full[PATH_MAX], line[2 * PATH_MAX];
    struct doctor_mount at;
    FILE *f = fopen(doctor_path(d, "/proc/self/mountinfo", full), "re");

    memset(out, 0, sizeof(*out));
    if (!f)
        return -errno;
    while (fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = '\0';
        /* The longest, and of equal ones the last: it lies on top. */
        if (take_line(line, path, &at) && strlen(at.point) >= strlen(out->point)) {
            *out = at;
            out->found = 1;
        }
    }
    (void)fclose(f);
    return out->found ? 0 : -ENOENT;
}

int doctor_real(const struct doctor *d, const char *path, char out[PATH_MAX])
{
    struct doctor_mount m;

    if (doctor_mount_of(d, path, &m) == 0 && strcmp(m.point, path) == 0)
        (void)snprintf(out, PATH_MAX, "%s", path);
    else if (!realpath(path, out))
        return -errno;
    return 0;
}

int doctor_mount_here(const struct doctor *d, struct doctor_mount *out)
{
    char real[PATH_MAX];
    int rc = doctor_real(d, d->mount, real);

    return rc ? rc : doctor_mount_of(d, real, out);
}

bool doctor_mount_known(const struct doctor *d, struct doctor_mount *out, struct doctor_finding *f)
{
    char real[PATH_MAX];
    int rc = doctor_real(d, d->mount, real);

    if (rc)
        doctor_say(f, DOCTOR_UNKNOWN, "%s: %s", d->mount, strerror(-rc));
    else if ((rc = doctor_mount_of(d, real, out)))
        doctor_say(f, DOCTOR_UNKNOWN, "/proc/self/mountinfo does not say what %s is", d->mount);
    return rc == 0;
}

bool doctor_is_3fs(const struct doctor_mount *m)
{
    return strstr(m->type, "hf3fs") || strncmp(m->source, "hf3fs", 5) == 0;
}

/* A variable that the first process of the machine or container, or this one, was started with. */
static bool started_with(const struct doctor *d, const char *file, const char *name)
{
    char buf[1 << 16];
    long len = doctor_read(d, file, buf, sizeof(buf)), at;

    for (at = 0; at < len; at += (long)strlen(buf + at) + 1) {
        if (strncmp(buf + at, name, strlen(name)) == 0 && buf[at + (long)strlen(name)] == '=')
            return true;
    }
    return false;
}

const char *doctor_container(const struct doctor *d)
{
    struct doctor_mount top;
    char buf[4096], path[PATH_MAX];

    /* The token may be switched off, and the name of the group hidden; the variable is not. */
    if (access(doctor_path(d, "/var/run/secrets/kubernetes.io", path), F_OK) == 0 ||
        started_with(d, "/proc/self/environ", "KUBERNETES_SERVICE_HOST") ||
        started_with(d, "/proc/1/environ", "KUBERNETES_SERVICE_HOST"))
        return "Kubernetes";
    if (access(doctor_path(d, "/.dockerenv", path), F_OK) == 0)
        return "Docker";
    if (access(doctor_path(d, "/run/.containerenv", path), F_OK) == 0)
        return "Podman";
    if (doctor_read(d, "/proc/1/cgroup", buf, sizeof(buf)) > 0) {
        if (strstr(buf, "kubepods"))
            return "Kubernetes";
        if (strstr(buf, "/docker"))
            return "Docker";
    }
    if (started_with(d, "/proc/1/environ", "container") ||
        (doctor_mount_of(d, "/", &top) == 0 && strcmp(top.type, "overlay") == 0))
        return "a container";
    return NULL;
}

uint64_t doctor_sum(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

uint64_t doctor_staging(const struct doctor *d)
{
    uint64_t all;

    if (__builtin_mul_overflow(d->ranks, doctor_sum(d->read_staging, d->write_staging), &all))
        return UINT64_MAX;
    return all;
}
