/*
 * err.h - error codes and the text of a thread's last failure.
 *
 * Operating errors travel up as negative codes; the place that knows most says so once with
 * err_set().
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#define MUST_CHECK __attribute__((warn_unused_result))

/* Records a sentence for this thread and returns `code`, so that `return err_set(-EINVAL, "...")`
 * reads well. */
int err_set(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Puts "prefix: " before what is there already. */
void err_prefix(const char *format, ...) __attribute__((format(printf, 1, 2)));
void err_clear(void);
/* This thread's text; "" if none. */
const char *err_text(void);
/* Hand a text from a helper thread to the thread that reports it. */
void err_copy_text(char *buf, unsigned long size);

#endif
