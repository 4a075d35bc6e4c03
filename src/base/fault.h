/*
 * fault.h - named points at which a test may stop the world.
 *
 * fault_point("put.written") costs one load and a branch. Only a test that links the objects
 * statically can set the hook; nothing in the environment of a host process can.
 */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

extern void (*fault_hook)(const char *name);

static inline void fault_point(const char *name)
{
    if (__builtin_expect(fault_hook != 0, 0))
        fault_hook(name);
}

#endif
