/*
 * stuck_exit.c - preloaded into a process it keeps its children from ending by themselves while it
 * lives, as threads that wait for a dead mount do.
 */
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((visibility("default"))) void _exit(int status)
{
    pid_t parent = getppid();

    while (getppid() == parent)
        (void)poll(NULL, 0, 100);
    for (;;)
        (void)syscall(SYS_exit_group, status);
}
