/* space_copy.c - copies a description: the open goes on in a thread of its own when its caller has
 * gone. */
#include "engine/space_copy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/config.h"

/* Moves one string to the text; with text NULL, only counts. */
static void take(const char **field, char *text, size_t *used)
{
    size_t n;

    if (!*field)
        return;
    n = strlen(*field) + 1;
    if (text)
        *field = memcpy(text + *used, *field, n);
    *used += n;
}

static size_t take_all(struct space_copy *c, char *text)
{
    struct cistern_space *s = &c->space;
    size_t used = 0;
    uint32_t i;

    take(&s->name, text, &used);
    take(&s->model, text, &used);
    take(&s->revision, text, &used);
    take(&s->dtype, text, &used);
    take(&s->layout, text, &used);
    take(&s->extra, text, &used);
    for (i = 0; i < s->nparts; i++)
        take(&c->parts[i].name, text, &used);
    return used;
}

int space_copy_make(const struct cistern_space *s, struct space_copy *out)
{
    struct space_copy c = {0};
    int rc = config_take_struct(&c.space, sizeof c.space, s);

    if (rc)
        return rc;
    memcpy(c.parts, c.space.parts, c.space.nparts * sizeof c.parts[0]);
    c.space.size = sizeof c.space;
    c.text = malloc(take_all(&c, NULL) + 1);
    if (!c.text)
        return err_set(-ENOMEM, "no memory for the description of the space");
    (void)take_all(&c, c.text);
    *out = c;
    out->space.parts = out->parts;
    return 0;
}

void space_copy_free(struct space_copy *s)
{
    free(s->text);
    *s = (struct space_copy){0};
}
