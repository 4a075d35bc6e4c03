/*
 * prefix.h - the options that name a prefix: a prompt with its identity, or keys.
 */
#ifndef CLI_PREFIX_H
#define CLI_PREFIX_H

#include "admin.h"

struct prefix_args {
    const char *keys, *key_file, *prompt, *tenant, *lora;
};

#define PREFIX_ARGS(x, p)                                                                          \
    {"space",                                                                                      \
     "NAME",                                                                                       \
     ARG_STRING,                                                                                   \
     &(x)->space,                                                                                  \
     0,                                                                                            \
     0,                                                                                            \
     "the space whose directory begins so; not needed where there is one"},                        \
        {"prompt",                                                                                 \
         "FILE",                                                                                   \
         ARG_STRING,                                                                               \
         &(p)->prompt,                                                                             \
         0,                                                                                        \
         0,                                                                                        \
         "tokens: a JSON list of ids, or else a token for each byte; - is stdin"},                 \
        {"tenant", "SALT", ARG_STRING, &(p)->tenant, 0, 0, "with --prompt: the tenant's salt"},    \
        {"lora", "NAME", ARG_STRING, &(p)->lora, 0, 0, "with --prompt: the adapter"},              \
        {"key", "HEX,...", ARG_STRING, &(p)->keys, 0, 0, "keys of one prompt, in order"},          \
    {                                                                                              \
        "keys", "FILE", ARG_STRING, &(p)->key_file, 0, 0, "the same from a file, one a line"       \
    }

/* CLI_OK, or an exit code after saying which options are missing or too many. */
int prefix_check(const struct prefix_args *p);

struct prefix {
    struct cistern_prefix prefix; /* points into this struct and what it owns */
    struct cistern_identity identity;
    uint32_t *tokens;  /* owned */
    cistern_key *keys; /* owned */
};

/* Reads what the options name. CLI_OK, or an exit code; prefix_release() in both cases. */
int prefix_read(const struct prefix_args *p, struct prefix *out);
void prefix_release(struct prefix *p);

#endif
