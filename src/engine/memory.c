/* memory.c - memory that callers register for direct reads. Blocks on the provider; nothing here is
 * on the path of a get. */
#include "engine/memory.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"

static int take(cistern *c, size_t bytes, cistern_memory **out, cistern_memory **m)
{
    int rc = guard_check(c);

    if (rc)
        return rc;
    if (!out || !bytes)
        return err_set(-EINVAL, "out is NULL or bytes is 0");
    *m = calloc(1, sizeof **m);
    if (!*m)
        return err_set(-ENOMEM, "no memory");
    (*m)->owner = c;
    (*m)->epoch = atomic_load(&c->epoch);
    return 0;
}

int cistern_memory_alloc(cistern *c, size_t bytes, cistern_memory **out, void **base)
{
    cistern_memory *m;
    int rc;

    if (!base)
        return err_set(-EINVAL, "base is NULL");
    rc = take(c, bytes, out, &m);
    if (rc)
        return rc;
    rc = io_mem_reserve(c->io, &m->mem, round_up(bytes, PAGE_BYTES), 0);
    if (rc) {
        free(m);
        return rc;
    }
    m->created = true;
    *base = m->mem.base;
    *out = m;
    return 0;
}

int cistern_memory_register(cistern *c, void *base, size_t bytes, cistern_memory **out)
{
    cistern_memory *m;
    int rc;

    if (!base)
        return err_set(-EINVAL, "base is NULL");
    rc = take(c, bytes, out, &m);
    if (rc)
        return rc;
    rc = c->io->ops->mem_wrap(c->io, &m->mem, base, bytes);
    if (rc) {
        free(m);
        return rc;
    }
    *out = m;
    return 0;
}

int cistern_memory_release(cistern *c, cistern_memory *m)
{
    int rc = guard_check(c);

    if (rc)
        return rc;
    if (!m || m->owner != c)
        return err_set(-EINVAL, "the memory is NULL or another handle's");
    if (atomic_load(&m->reads))
        return err_set(-EBUSY,
                       "storage may still write to this memory: wait for CISTERN_EV_BUFFER_FREE");
    c->io->ops->mem_destroy(c->io, &m->mem);
    free(m);
    return 0;
}
