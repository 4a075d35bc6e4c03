/*
 * prefix.c - reads the prefix that pin, warm and explain are about.
 */
#include "prefix.h"

#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "prompt.h"

int prefix_check(const struct prefix_args *p)
{
    if ((p->prompt != NULL) + (p->keys != NULL) + (p->key_file != NULL) != 1)
        return cli_fail(CLI_USAGE, "one of --prompt, --key and --keys is needed");
    if (p->prompt == NULL && (p->tenant != NULL || p->lora != NULL))
        return cli_fail(CLI_USAGE, "--tenant and --lora belong to --prompt");
    return CLI_OK;
}

int prefix_read(const struct prefix_args *p, struct prefix *out)
{
    int r;

    *out = (struct prefix){.prefix = {.size = sizeof(out->prefix)}};
    if (p->prompt == NULL) {
        r = prompt_keys(p->keys, p->key_file, &out->keys, &out->prefix.nkeys);
        out->prefix.keys = out->keys;
        return r;
    }
    r = prompt_tokens(p->prompt, &out->tokens, &out->prefix.ntokens);
    out->prefix.tokens = out->tokens;
    if (p->tenant != NULL || p->lora != NULL) {
        out->identity = (struct cistern_identity){.size = sizeof(out->identity),
                                                  .tenant = p->tenant,
                                                  .tenant_len = p->tenant ? strlen(p->tenant) : 0,
                                                  .lora = p->lora};
        out->prefix.identity = &out->identity;
    }
    return r;
}

void prefix_release(struct prefix *p)
{
    free(p->tokens);
    free(p->keys);
}
