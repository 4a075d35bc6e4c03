/*
 * prompt.h - keys and tokens as they come from files and the command line.
 */
#ifndef CLI_PROMPT_H
#define CLI_PROMPT_H

#include "cistern.h"

/* Tokens of a prompt: a JSON list of numbers, or else one token for each byte. "-" is stdin. *out
 * is malloc'd. CLI_OK, or an exit code after saying what is wrong. */
int prompt_tokens(const char *file, uint32_t **out, size_t *n);
/* Keys in hex: in `list`, with commas between, or in `file`, with white space between. *out is
 * malloc'd. */
int prompt_keys(const char *list, const char *file, cistern_key **out, size_t *n);

#endif
