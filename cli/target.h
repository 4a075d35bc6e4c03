/*
 * target.h - the directory that a verb looks at: --mount and --root, and what is wrong with them.
 */
#ifndef CLI_TARGET_H
#define CLI_TARGET_H

#include <limits.h>

#include "cistern.h"

struct target {
    /* As given, NULL = from the environment. */
    const char *mount, *root, *provider, *provider_path, *key_file;
    char mount_path[PATH_MAX]; /* absolute, once resolved */
    char root_path[PATH_MAX];
    char word_mount[PATH_MAX], word_root[PATH_MAX]; /* of target_word() */
    struct cistern_cluster cluster;                 /* of this host */
    struct cistern_options options;                 /* points into this struct */
};

/* Rows for a verb's table of options. */
#define TARGET_ARGS(t)                                                                             \
    {"mount",                                                                                      \
     "DIR",                                                                                        \
     ARG_STRING,                                                                                   \
     &(t)->mount,                                                                                  \
     0,                                                                                            \
     0,                                                                                            \
     "mount directory (CISTERN_MOUNT, else of the cluster, else /3fs/stage/3fs/)"},                \
        {"root",                                                                                   \
         "DIR",                                                                                    \
         ARG_STRING,                                                                               \
         &(t)->root,                                                                               \
         0,                                                                                        \
         0,                                                                                        \
         "directory below the mount (CISTERN_ROOT, else rtp_llm/)"},                               \
        {"provider",                                                                               \
         "NAME",                                                                                   \
         ARG_STRING,                                                                               \
         &(t)->provider,                                                                           \
         0,                                                                                        \
         0,                                                                                        \
         "auto, hf3fs or local (default auto)"},                                                   \
        {"key-file",                                                                               \
         "FILE",                                                                                   \
         ARG_STRING,                                                                               \
         &(t)->key_file,                                                                           \
         0,                                                                                        \
         0,                                                                                        \
         "keys of an encrypted root (CISTERN_ENCRYPTION_KEY_FILE)"},                               \
    {                                                                                              \
        "provider-path", "FILE", ARG_STRING, &(t)->provider_path, 0, 0,                            \
            "absolute path of libhf3fs_api_shared.so"                                              \
    }

/*
 * Fills t->options from the environment and the given words, and checks that there is a Cistern
 * root. CLI_OK, or an exit code after it said what is wrong and what to do.
 */
int target_resolve(struct target *t);
/* The same, but a root without cistern.json will do: what is wrong with it is the question. */
int target_resolve_damaged(struct target *t);
/* The same, and the root need not be there. */
int target_resolve_new(struct target *t);
/* A root as one word, "/mnt/kv/rtp_llm", in place of --mount and --root. NULL is fine. CLI_OK or an
 * exit code. */
int target_word(struct target *t, const char *word);

#endif
