/*
 * creator.c - the thread that makes all memory and rings of the real 3FS client.
 *
 * When a process dies, the FUSE daemon removes what was made by the very thread that made the
 * process's first iov or ring, and keeps what other threads made: gigabytes of pinned memory, until
 * the daemon is restarted. So one thread makes them all, for every handle, and it stays as long as
 * the process. It keeps this library loaded, as the client's own threads keep the client.
 *
 * Threads: any number of callers; they are served one after the other. A creation that hangs in the
 * kernel hangs all later ones: callers are helper threads. A forked child starts with a thread of
 * its own. If no thread can be had, the caller does it itself.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "io/io_internal.h"

struct errand {
    int (*make)(void *arg);
    void *arg;
    int rc;
    bool done;
    char text[512];
    struct errand *next;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t work, finished;
    struct errand *first; /* guarded by lock */
    bool running;         /* guarded by lock */
} creator = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .work = PTHREAD_COND_INITIALIZER,
    .finished = PTHREAD_COND_INITIALIZER,
};

/* The parent's thread is not here, and its lock may be held by nobody. */
static void forget_in_child(void)
{
    (void)pthread_mutex_init(&creator.lock, NULL);
    (void)pthread_cond_init(&creator.work, NULL);
    (void)pthread_cond_init(&creator.finished, NULL);
    creator.first = NULL;
    creator.running = false;
}

static void *creator_main(void *arg)
{
    (void)arg;
    (void)pthread_mutex_lock(&creator.lock);
    for (;;) {
        struct errand *e = creator.first;

        if (!e) {
            (void)pthread_cond_wait(&creator.work, &creator.lock);
            continue;
        }
        creator.first = e->next;
        (void)pthread_mutex_unlock(&creator.lock);
        err_clear();
        e->rc = e->make(e->arg);
        err_copy_text(e->text, sizeof e->text);
        (void)pthread_mutex_lock(&creator.lock);
        e->done = true;
        (void)pthread_cond_broadcast(&creator.finished);
    }
    return NULL;
}

static void stay_loaded(void)
{
    static bool done; /* guarded by creator.lock */
    Dl_info here;

    if (done)
        return;
    if (dladdr((void *)&creator, &here))
        (void)dlopen(here.dli_fname, RTLD_NOW | RTLD_NODELETE | RTLD_NOLOAD);
    (void)pthread_atfork(NULL, NULL, forget_in_child);
    done = true;
}

/* Called with the lock held. */
static int creator_start(void)
{
    sigset_t all, old;
    pthread_t thread;
    int rc;

    if (creator.running)
        return 0;
    stay_loaded();
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&thread, NULL, creator_main, NULL);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc)
        return -rc;
    (void)pthread_detach(thread);
    creator.running = true;
    return 0;
}

int creator_call(int (*make)(void *arg), void *arg)
{
    struct errand e = {.make = make, .arg = arg}, **end;

    (void)pthread_mutex_lock(&creator.lock);
    if (creator_start() != 0) {
        (void)pthread_mutex_unlock(&creator.lock);
        return make(arg);
    }
    for (end = &creator.first; *end; end = &(*end)->next)
        ;
    *end = &e;
    (void)pthread_cond_signal(&creator.work);
    while (!e.done)
        (void)pthread_cond_wait(&creator.finished, &creator.lock);
    (void)pthread_mutex_unlock(&creator.lock);
    return e.rc ? err_set(e.rc, "%s", e.text) : 0;
}
