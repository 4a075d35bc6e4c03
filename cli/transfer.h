/*
 * transfer.h - what export and import say at the end.
 */
#ifndef CLI_TRANSFER_H
#define CLI_TRANSFER_H

#include "admin.h"

/* "<done> 3 segments, ...". On stderr when stdout carries the export itself. CLI_OK or an exit
 * code. */
int transfer_print(struct admin_args *x, const char *done, const struct cistern_transfer_sum *s,
                   bool to_stderr);

#endif
