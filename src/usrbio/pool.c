/*
 * pool.c - pread and pwrite in worker threads, where io_uring is forbidden.
 *
 * Threads are started when work finds none idle, up to a bound, and all end when the last ring of
 * the process is destroyed. They block every signal. A forked child has none of them and starts its
 * own.
 */
#include "usrbio/state.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#define THREADS_MAX    32
#define STACK_BYTES    (128u << 10)
#define STOP_TIMEOUT_S 5

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards everything below */
static pthread_cond_t work = PTHREAD_COND_INITIALIZER;
static struct slot_list queue;
static unsigned queued;
static pthread_t threads[THREADS_MAX];
static unsigned thread_count, idle, starting;
static unsigned epoch; /* threads of an earlier one end */

void pool_reset_after_fork(void)
{
    pthread_mutex_init(&lock, NULL);
    pthread_cond_init(&work, NULL);
    list_init(&queue);
    queued = thread_count = idle = starting = 0;
    epoch++;
}

unsigned pool_threads(void)
{
    unsigned n;

    pthread_mutex_lock(&lock);
    n = thread_count;
    pthread_mutex_unlock(&lock);
    return n;
}

static void *worker(void *arg)
{
    unsigned mine = (unsigned)(uintptr_t)arg;
    struct slot *slot;

    pthread_mutex_lock(&lock);
    starting--;
    for (;;) {
        slot = list_pop(&queue);
        if (slot != NULL) {
            queued--;
            pthread_mutex_unlock(&lock);
            ior_complete(slot, rw_run(slot));
            pthread_mutex_lock(&lock);
            continue;
        }
        if (mine != epoch)
            break;
        idle++;
        pthread_cond_wait(&work, &lock);
        idle--;
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* lock held */
static bool thread_start(void)
{
    pthread_attr_t attr;
    sigset_t all, old;
    int rc;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&threads[thread_count], &attr, worker, (void *)(uintptr_t)epoch);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (rc != 0)
        return false;
    thread_count++;
    starting++;
    return true;
}

/* Without any thread to be had, the caller does the work. */
static void run_here(void)
{
    struct slot *slot;

    for (;;) {
        pthread_mutex_lock(&lock);
        slot = thread_count == 0 ? list_pop(&queue) : NULL;
        queued -= slot != NULL;
        pthread_mutex_unlock(&lock);
        if (slot == NULL)
            return;
        ior_complete(slot, rw_run(slot));
    }
}

void pool_push(struct slot_list *list, unsigned count)
{
    struct slot *slot;
    bool none;

    pthread_mutex_lock(&lock);
    while ((slot = list_pop(list)) != NULL)
        list_push(&queue, slot);
    queued += count;
    while (thread_count < THREADS_MAX && queued > idle + starting && thread_start())
        ;
    for (unsigned i = 0; i < count && i < idle; i++)
        pthread_cond_signal(&work);
    none = thread_count == 0;
    pthread_mutex_unlock(&lock);
    if (none)
        run_here();
}

void pool_stop(void)
{
    pthread_t old[THREADS_MAX];
    struct timespec until;
    unsigned n;

    pthread_mutex_lock(&lock);
    n = thread_count;
    memcpy(old, threads, sizeof(old));
    thread_count = 0;
    epoch++;
    pthread_cond_broadcast(&work);
    pthread_mutex_unlock(&lock);
    if (n == 0)
        return;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += STOP_TIMEOUT_S;
    for (unsigned i = 0; i < n; i++) {
        if (pthread_timedjoin_np(old[i], NULL, &until) != 0)
            pthread_detach(old[i]); /* stuck in storage that does not answer */
    }
}
