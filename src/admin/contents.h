/*
 * contents.h - one contents file or head, read to where its data ends.
 */
#ifndef ADMIN_CONTENTS_H
#define ADMIN_CONTENTS_H

#include "admin/survey.h"

/* Reads <dir>'s contents of seg into toc_rc, header, cursor, end, torn; records go to `sink`. What
 * is wrong with the file is in seg, whose toc_stat says when to look twice; a return value other
 * than 0 ends the survey. */
int contents_read(struct admin *ad, const struct survey_shard *sh, struct survey_segment *seg,
                  const struct toc_sink *sink) MUST_CHECK;
/* Reads a head into head_rc, head; *hash is over its bytes. */
int contents_head(struct admin *ad, const struct survey_shard *sh, struct survey_writer *w,
                  uint64_t *hash) MUST_CHECK;

#endif
