/* switches.h - the command line and the environment of minillm. */
#ifndef MINILLM_SWITCHES_H
#define MINILLM_SWITCHES_H

#include "config.h"
#include "tier2.h"

/*
 * Reads them: defaults, then the environment, then flags. argv is not changed. *tier2 gets the
 * switches that belong to Cistern, whether it is on or not. Returns 0; 1 when the user asked for
 * help, which was printed; or -EINVAL, after a message on stderr.
 */
int switches_read(struct config *c, struct tier2 **tier2, int argc, char **argv)
    __attribute__((warn_unused_result));
void switches_release(struct config *c);

#endif
