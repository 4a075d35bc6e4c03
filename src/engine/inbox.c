/*
 * inbox.c - shares on their way to a lane, and the bell that wakes it. The bell grows before the
 * lane looks whether somebody sleeps, and the lane says that it sleeps before it looks at the bell:
 * sequentially consistent on both sides, so no ring is lost.
 */
#include "base/futex.h"
#include "engine/engine.h"

void inbox_init(struct inbox *in)
{
    in->first = in->last = NULL;
    atomic_store(&in->bell, 0);
    atomic_store(&in->sleeping, 0);
    (void)pthread_mutex_init(&in->lock, NULL);
}

void inbox_ring(struct inbox *in)
{
    (void)atomic_fetch_add(&in->bell, 1);
    if (atomic_load(&in->sleeping))
        futex_wake(&in->bell, 1);
}

void inbox_push(struct inbox *in, struct share *s)
{
    s->link = NULL;
    (void)pthread_mutex_lock(&in->lock);
    if (in->last)
        in->last->link = s;
    else
        in->first = s;
    in->last = s;
    (void)pthread_mutex_unlock(&in->lock);
    inbox_ring(in);
}

struct share *inbox_take_all(struct inbox *in)
{
    struct share *s;

    (void)pthread_mutex_lock(&in->lock);
    s = in->first;
    in->first = in->last = NULL;
    (void)pthread_mutex_unlock(&in->lock);
    return s;
}

bool inbox_waiting(struct inbox *in)
{
    bool any;

    (void)pthread_mutex_lock(&in->lock);
    any = in->first != NULL;
    (void)pthread_mutex_unlock(&in->lock);
    return any;
}

void inbox_sleep(struct inbox *in, uint32_t seen, uint64_t ns)
{
    atomic_store(&in->sleeping, 1);
    if (atomic_load(&in->bell) == seen)
        futex_wait(&in->bell, seen, ns);
    atomic_store(&in->sleeping, 0);
}
