/*
 * hook.h - where a test puts its own row of struct io_ops under the engine.
 *
 * Hidden, so that only a statically linked test reaches it; nothing in the environment of a host
 * process can. Set it before the first open.
 */
#ifndef IO_HOOK_H
#define IO_HOOK_H

#include "io/io.h"

/* Takes the place of the provider in io_open(); NULL in every release. */
extern int (*io_open_hook)(const struct io_options *o, struct io **out);

#endif
