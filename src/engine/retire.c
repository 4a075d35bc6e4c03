/* retire.c - see retire.h. */
#include "engine/retire.h"

#include <errno.h>
#include <stdio.h>

#include "segment/root.h"

void retire_look(cistern *c)
{
    char path[sizeof c->space_path + sizeof SPACE_RETIRED + 1];
    struct io_stat st;
    bool is;
    int rc;

    (void)snprintf(path, sizeof path, "%s/" SPACE_RETIRED, c->space_path);
    rc = c->io->ops->stat(c->io, path, &st);
    if (rc && rc != -ENOENT)
        return;
    is = !rc;
    if (atomic_exchange(&c->retired, is) == is)
        return;
    metric_set(&c->metrics, METRIC_retired, is);
    log_line(&c->cfg.log, LOG_WARN,
             is ? "%s is retired: nothing is stored in it, what is there goes first"
                : "%s is not retired any more: puts are taken again",
             c->space_path);
}
