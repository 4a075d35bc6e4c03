/*
 * sim_files.c - bytes and names of the simulated file system: chunks, what is durable of them, what
 * a host thinks it knows, and when space comes back.
 *
 * Inodes stay until the file system goes; only their bytes are given back. Guarded by the lock.
 */
#include "sim_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NEGATIVE_S 5
#define CACHE_S    30
#define LENGTH_S   30
#define RECLAIM_S  300

/* ---- Chunks ---- */

static struct sim_chunk *chunk_at(struct simfs *fs, struct sim_inode *ino, uint64_t offset,
                                  bool make)
{
    uint64_t i = offset / fs->o.chunk_bytes;

    if (i >= ino->nchunks) {
        struct sim_chunk *grown;

        if (!make)
            return NULL;
        grown = realloc(ino->chunks, (i + 1) * sizeof *grown);
        if (!grown)
            return NULL;
        memset(grown + ino->nchunks, 0, (i + 1 - ino->nchunks) * sizeof *grown);
        ino->chunks = grown;
        ino->nchunks = (uint32_t)i + 1;
    }
    if (make && !ino->chunks[i].bytes)
        ino->chunks[i].bytes = calloc(1, fs->o.chunk_bytes);
    return &ino->chunks[i];
}

static uint64_t chunk_used(const struct sim_chunk *c)
{
    return max_u64(round_up(c->len, PAGE_BYTES), c->reserve);
}

uint64_t sim_inode_used(const struct simfs *fs, const struct sim_inode *ino)
{
    uint64_t n = 0;
    uint32_t i;

    (void)fs;
    for (i = 0; i < ino->nchunks; i++)
        n += chunk_used(&ino->chunks[i]);
    return n;
}

uint64_t sim_used(const struct simfs *fs)
{
    const struct sim_inode *ino;
    uint64_t n = fs->stranger;

    for (ino = fs->inodes; ino; ino = ino->next) {
        /* bytes kept only for a power cut that may bring the name back take no space */
        if (ino->links || ino->opens || fs->o.manners.late_reclamation)
            n += sim_inode_used(fs, ino);
    }
    return n;
}

static void chunk_free(struct sim_chunk *c)
{
    free(c->bytes);
    free(c->durable);
    *c = (struct sim_chunk){0};
}

/* Keeps what a power cut may bring back, before the first change since a sync. */
static void chunk_dirty(struct simfs *fs, struct sim_chunk *c, uint32_t from, uint32_t len)
{
    uint32_t s;

    if (fs->o.manners.acks_durable)
        return;
    if (!c->durable) {
        c->durable = malloc(fs->o.chunk_bytes);
        if (!c->durable)
            return;
        memcpy(c->durable, c->bytes, fs->o.chunk_bytes);
        c->durable_len = c->len;
        memset(c->dirty, 0, sizeof c->dirty);
        memset(c->stuck, 0, sizeof c->stuck);
    }
    for (s = from / SECTOR; s <= (from + len - 1) / SECTOR; s++) {
        c->dirty[s / 8] |= (uint8_t)(1u << s % 8);
        c->stuck[s / 8] &= (uint8_t) ~(1u << s % 8);
    }
}

int64_t sim_bytes_read(struct simfs *fs, struct sim_inode *ino, uint64_t offset, uint8_t *to,
                       uint64_t len)
{
    bool local = !fs->o.manners.acks_durable;
    uint64_t done = 0, end = 0;

    if (local) {
        if (offset >= ino->length)
            return 0;
        len = min_u64(len, ino->length - offset);
    }
    while (done < len) {
        uint64_t at = offset + done, in = at % fs->o.chunk_bytes;
        uint64_t n = min_u64(len - done, fs->o.chunk_bytes - in);
        struct sim_chunk *c = chunk_at(fs, ino, at, false);
        uint64_t have = c && c->bytes && c->len > in ? min_u64(n, c->len - in) : 0;

        if (have || local)
            memset(to + end, 0, done - end); /* a hole with data behind it */
        if (have)
            memcpy(to + done, c->bytes + in, have);
        if (local && have < n)
            memset(to + done + have, 0, n - have);
        if (have || local)
            end = done + (local ? n : have);
        done += n;
    }
    return (int64_t)end;
}

int sim_bytes_write(struct simfs *fs, struct sim_inode *ino, uint32_t host, uint64_t offset,
                    const uint8_t *from, uint64_t len)
{
    uint64_t used = fs->o.capacity_bytes ? sim_used(fs) : 0, done = 0;

    while (done < len) {
        uint64_t at = offset + done, in = at % fs->o.chunk_bytes;
        uint64_t n = min_u64(len - done, fs->o.chunk_bytes - in), before;
        struct sim_chunk *c = chunk_at(fs, ino, at, true);

        if (!c || !c->bytes)
            return -ENOMEM;
        before = chunk_used(c);
        if (fs->o.capacity_bytes && in + n > c->len &&
            used + max_u64(round_up(in + n, PAGE_BYTES), c->reserve) - before >
                fs->o.capacity_bytes) {
            (void)__atomic_fetch_add(&(*sim_coverage)[fs->label][SIM_ENOSPC], 1, __ATOMIC_RELAXED);
            return -ENOSPC;
        }
        chunk_dirty(fs, c, (uint32_t)in, (uint32_t)n);
        memcpy(c->bytes + in, from + done, n);
        c->len = (uint32_t)max_u64(c->len, in + n);
        used += chunk_used(c) - before;
        done += n;
        if (at + n > ino->length) {
            if (ino->told_length == ino->length)
                ino->tell_at = sim_virtual(fs) + LENGTH_S * SIM_S;
            ino->length = at + n;
        }
        ino->writer_host = host;
    }
    return 0;
}

int sim_reserve(struct simfs *fs, struct sim_inode *ino, uint64_t from, uint64_t len)
{
    uint64_t used = fs->o.capacity_bytes ? sim_used(fs) : 0, done;

    for (done = 0; done < len;) {
        uint64_t at = from + done, in = at % fs->o.chunk_bytes;
        uint64_t n = min_u64(len - done, fs->o.chunk_bytes - in), before;
        struct sim_chunk *c = chunk_at(fs, ino, at, true);

        if (!c)
            return -ENOMEM;
        before = chunk_used(c);
        c->reserve = (uint32_t)max_u64(c->reserve, in + n);
        used += chunk_used(c) - before;
        if (fs->o.capacity_bytes && used > fs->o.capacity_bytes) {
            c->reserve = 0;
            (void)__atomic_fetch_add(&(*sim_coverage)[fs->label][SIM_ENOSPC], 1, __ATOMIC_RELAXED);
            return -ENOSPC;
        }
        done += n;
    }
    ino->length = max_u64(ino->length, from + len);
    return 0;
}

void sim_truncate(struct simfs *fs, struct sim_inode *ino, uint64_t size)
{
    uint32_t i;

    for (i = 0; i < ino->nchunks; i++) {
        struct sim_chunk *c = &ino->chunks[i];
        uint64_t start = (uint64_t)i * fs->o.chunk_bytes;
        uint32_t keep = size > start ? (uint32_t)min_u64(size - start, fs->o.chunk_bytes) : 0;

        c->reserve = (uint32_t)min_u64(c->reserve, round_up(keep, PAGE_BYTES));
        if (c->bytes && c->len > keep) {
            chunk_dirty(fs, c, keep, c->len - keep);
            memset(c->bytes + keep, 0, c->len - keep);
            c->len = keep;
        }
    }
    ino->length = ino->told_length = size;
}

void sim_inode_tell(struct simfs *fs, struct sim_inode *ino)
{
    (void)fs;
    ino->told_length = ino->length;
}

/* What is in the chunk becomes durable, except where a sync failed before. */
static void chunk_sync(struct simfs *fs, struct sim_chunk *c)
{
    bool any = false;
    uint32_t s;

    if (!c->durable)
        return;
    for (s = 0; s < fs->o.chunk_bytes / SECTOR; s++) {
        uint8_t bit = (uint8_t)(1u << s % 8);

        if (c->stuck[s / 8] & bit) {
            any = true;
        } else if (c->dirty[s / 8] & bit) {
            memcpy(c->durable + s * SECTOR, c->bytes + s * SECTOR, SECTOR);
            c->dirty[s / 8] &= (uint8_t)~bit;
        }
    }
    c->durable_len = c->len;
    if (!any) {
        free(c->durable);
        c->durable = NULL;
    }
}

void sim_inode_sync(struct simfs *fs, struct sim_inode *ino)
{
    uint32_t i;

    for (i = 0; i < ino->nchunks; i++)
        chunk_sync(fs, &ino->chunks[i]);
    ino->durable_length = ino->length;
    sim_inode_tell(fs, ino);
}

/* The pages count as clean from now on, though they never reached the disk. */
void sim_inode_sync_failed(struct sim_inode *ino)
{
    uint32_t i;

    for (i = 0; i < ino->nchunks; i++)
        memcpy(ino->chunks[i].stuck, ino->chunks[i].dirty, sizeof ino->chunks[i].stuck);
}

bool sim_chunks_pending(const struct simfs *fs, const struct sim_inode *ino, uint64_t offset,
                        uint64_t len)
{
    uint64_t i;

    for (i = offset / fs->o.chunk_bytes; i <= (offset + len - 1) / fs->o.chunk_bytes; i++) {
        if (i < ino->nchunks && ino->chunks[i].pending)
            return true;
    }
    return false;
}

void sim_chunks_pend(struct simfs *fs, struct sim_inode *ino, uint64_t offset, uint64_t len, int by)
{
    uint64_t i;

    for (i = offset / fs->o.chunk_bytes; i <= (offset + len - 1) / fs->o.chunk_bytes; i++) {
        struct sim_chunk *c = chunk_at(fs, ino, i * fs->o.chunk_bytes, true);

        if (c)
            c->pending += (uint32_t)by;
    }
}

/* ---- Names ---- */

struct sim_name *sim_name_find(struct simfs *fs, const char *path)
{
    uint32_t i;

    for (i = 0; i < fs->nnames; i++) {
        if (strcmp(fs->names[i].path, path) == 0)
            return &fs->names[i];
    }
    return NULL;
}

static void parent_of(const char *path, char out[SIM_PATH])
{
    const char *slash = strrchr(path, '/');

    (void)snprintf(out, SIM_PATH, "%.*s", slash ? (int)(slash - path) : 0, path);
}

bool sim_parent_there(struct simfs *fs, const char *path)
{
    char parent[SIM_PATH];
    struct sim_name *n;

    parent_of(path, parent);
    n = parent[0] ? sim_name_find(fs, parent) : NULL;
    return !parent[0] || (n && n->now && n->now->is_dir);
}

struct sim_inode *sim_inode_new(struct simfs *fs, const char *path, bool is_dir)
{
    struct sim_inode *ino = calloc(1, sizeof *ino);

    if (!ino)
        return NULL;
    ino->id = ++fs->next_inode;
    ino->is_dir = is_dir;
    (void)snprintf(ino->path, sizeof ino->path, "%s", path);
    ino->next = fs->inodes;
    fs->inodes = ino;
    return ino;
}

static struct sim_cached *cached(struct sim_host *h, const char *path, bool make)
{
    uint32_t i;

    for (i = 0; i < h->ncache; i++) {
        if (strcmp(h->cache[i].path, path) == 0)
            return &h->cache[i];
    }
    if (!make)
        return NULL;
    if (h->ncache == h->room) {
        uint32_t room = h->room ? 2 * h->room : 64;
        struct sim_cached *grown = realloc(h->cache, room * sizeof *grown);

        if (!grown)
            return NULL;
        h->cache = grown;
        h->room = room;
    }
    h->cache[h->ncache] = (struct sim_cached){0};
    (void)snprintf(h->cache[h->ncache].path, SIM_PATH, "%s", path);
    return &h->cache[h->ncache++];
}

void sim_cache_drop(struct sim_proc *p, const char *path)
{
    struct sim_host *h = &p->fs->hosts[p->host];
    struct sim_cached *c = cached(h, path, false);

    if (c)
        *c = h->cache[--h->ncache];
}

struct sim_inode *sim_lookup(struct sim_proc *p, const char *path)
{
    struct simfs *fs = p->fs;
    struct sim_host *h = &fs->hosts[p->host];
    struct sim_cached *c = cached(h, path, false);
    uint64_t now = sim_virtual(fs), keep;
    struct sim_name *n;

    if (c && now < c->until)
        return c->inode;
    n = sim_name_find(fs, path);
    if (n && n->now)
        keep = fs->o.manners.entry_cache ? CACHE_S * SIM_S : 0;
    else
        keep = fs->o.manners.negative_lookups ? NEGATIVE_S * SIM_S : 0;
    if (keep && (c = cached(h, path, true))) {
        c->inode = n ? n->now : NULL;
        c->until = now + keep;
        c->size_until = 0;
    }
    return n ? n->now : NULL;
}

uint64_t sim_size_seen(struct sim_proc *p, const char *path, struct sim_inode *ino)
{
    struct simfs *fs = p->fs;
    uint64_t now = sim_virtual(fs), size = ino->length;
    struct sim_cached *c;

    if (ino->writer_host == p->host)
        return size;
    if (fs->o.manners.lagging_length && now < ino->tell_at)
        size = ino->told_length;
    if (!fs->o.manners.entry_cache)
        return size;
    c = cached(&fs->hosts[p->host], path, false);
    if (!c)
        return size;
    if (now < c->size_until)
        return c->size;
    c->size = size;
    c->size_until = now + CACHE_S * SIM_S;
    return size;
}

void sim_name_set(struct sim_proc *p, const char *path, struct sim_inode *inode, bool durable)
{
    struct simfs *fs = p->fs;
    struct sim_name *n = sim_name_find(fs, path);

    sim_cache_drop(p, path);
    if (!n) {
        if (fs->nnames == fs->names_room) {
            uint32_t room = fs->names_room ? 2 * fs->names_room : 64;
            struct sim_name *grown = realloc(fs->names, room * sizeof *grown);

            if (!grown)
                return;
            fs->names = grown;
            fs->names_room = room;
        }
        n = &fs->names[fs->nnames++];
        *n = (struct sim_name){0};
        (void)snprintf(n->path, sizeof n->path, "%s", path);
    }
    if (n->now && --n->now->links == 0)
        n->now->gone_at = sim_virtual(fs);
    n->now = inode;
    if (inode)
        inode->links++;
    if (durable || fs->o.manners.acks_durable)
        n->durable = n->now;
    sim_reclaim(fs);
}

void sim_names_sync(struct simfs *fs, const char *dir)
{
    char parent[SIM_PATH];
    uint32_t i;

    for (i = 0; i < fs->nnames; i++) {
        parent_of(fs->names[i].path, parent);
        if (strcmp(parent, dir) == 0)
            fs->names[i].durable = fs->names[i].now;
    }
}

/* ---- Space that comes back ---- */

static bool held(const struct simfs *fs, const struct sim_inode *ino)
{
    uint32_t i;

    for (i = 0; i < fs->nnames; i++) {
        if (fs->names[i].durable == ino)
            return true; /* a power cut may bring it back; the space is not accounted for it */
    }
    return false;
}

void sim_reclaim(struct simfs *fs)
{
    uint64_t now = sim_virtual(fs);
    struct sim_inode *ino;
    uint32_t i;

    for (ino = fs->inodes; ino; ino = ino->next) {
        bool due = fs->o.manners.late_reclamation ? now >= ino->gone_at + RECLAIM_S * SIM_S
                                                  : !ino->opens && !held(fs, ino);

        if (ino->links || ino->reclaimed || !due)
            continue;
        for (i = 0; i < ino->nchunks; i++) {
            uint32_t pending = ino->chunks[i].pending;

            chunk_free(&ino->chunks[i]);
            ino->chunks[i].pending = pending;
        }
        ino->reclaimed = true;
        ino->length = ino->told_length = 0;
    }
}

/* ---- Power ---- */

/* Each sector that was not synced is there or not: all, none or some, by the file's own luck. */
static void chunk_cut(struct simfs *fs, struct sim_chunk *c, uint64_t luck)
{
    uint32_t s;

    if (!c->durable)
        return;
    for (s = 0; s < fs->o.chunk_bytes / SECTOR; s++) {
        bool lose = luck % 4 == 0 || (luck % 4 != 1 && sim_roll(fs) % 2);

        if ((c->dirty[s / 8] & (1u << s % 8)) && lose)
            memcpy(c->bytes + s * SECTOR, c->durable + s * SECTOR, SECTOR);
    }
    if (luck % 4 == 0)
        c->len = c->durable_len;
    free(c->durable);
    c->durable = NULL;
}

void sim_files_cut(struct simfs *fs)
{
    struct sim_inode *ino;
    uint32_t i;

    for (ino = fs->inodes; ino && !fs->o.manners.acks_durable; ino = ino->next) {
        uint64_t luck = sim_roll(fs);

        for (i = 0; i < ino->nchunks; i++)
            chunk_cut(fs, &ino->chunks[i], luck);
        if (luck % 4 == 0 && ino->length > ino->durable_length)
            ino->length = ino->durable_length;
        ino->durable_length = ino->told_length = ino->length;
    }
    for (i = 0; i < fs->nnames; i++) {
        struct sim_name *n = &fs->names[i];

        if (n->now == n->durable)
            continue;
        if (sim_roll(fs) % 2) {
            if (n->now && --n->now->links == 0)
                n->now->gone_at = sim_virtual(fs);
            n->now = n->durable;
            if (n->now)
                n->now->links++;
        }
        n->durable = n->now;
    }
    for (i = 0; i < fs->nnames; i++) { /* what lay in a directory that is lost */
        struct sim_name *n = &fs->names[i];

        if (n->now && !sim_parent_there(fs, n->path)) {
            n->now->links--;
            n->now = n->durable = NULL;
            i = UINT32_MAX; /* from the beginning */
        }
    }
    sim_reclaim(fs);
}

void sim_files_free(struct simfs *fs)
{
    struct sim_inode *ino, *next;
    uint32_t i;

    for (ino = fs->inodes; ino; ino = next) {
        next = ino->next;
        for (i = 0; i < ino->nchunks; i++)
            chunk_free(&ino->chunks[i]);
        free(ino->chunks);
        free(ino);
    }
    free(fs->names);
}
