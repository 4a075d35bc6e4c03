/* log.c - one formatted line to the host's callback. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

void log_line(const struct logger *l, int level, const char *format, ...)
{
    char line[512];
    va_list args;

    if (!l || !l->fn)
        return;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    l->fn(l->arg, level, line);
}
