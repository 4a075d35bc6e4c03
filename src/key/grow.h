/*
 * grow.h - structs of the public API that begin with `size` and grow from release to release.
 */
#ifndef KEY_GROW_H
#define KEY_GROW_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*
 * Copies a caller's struct into ours of own_size bytes, both beginning with `size_t size`. What an
 * older caller does not have is zero. -EINVAL: NULL, no size, one that no version's struct has (it
 * would cut a pointer in two), or a newer caller set something that we do not know.
 */
static inline int grow_take(void *own, size_t own_size, const void *given)
{
    size_t size, i;

    if (!given)
        return -EINVAL;
    memcpy(&size, given, sizeof size);
    if (size < sizeof size || size > 65536 || size % sizeof size)
        return -EINVAL;
    for (i = own_size; i < size; i++) {
        if (((const uint8_t *)given)[i])
            return -EINVAL;
    }
    memset(own, 0, own_size);
    memcpy(own, given, size < own_size ? size : own_size);
    memcpy(own, &own_size, sizeof own_size);
    return 0;
}

#endif
