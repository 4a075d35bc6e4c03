/*
 * text.h - sizes, keys and names as people write them. Pure functions.
 */
#ifndef CLI_TEXT_H
#define CLI_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "64K", "2M", "1G", "1T", "4096"; powers of 1024, an "iB" or "B" behind the letter is fine. */
bool text_size_parse(const char *s, uint64_t *out);
/* A whole number in [min, max], nothing behind it. */
bool text_number_parse(const char *s, uint64_t min, uint64_t max, uint64_t *out);
/* "90", "90s", "36h", "30d" in seconds; at most a hundred years. */
bool text_age_parse(const char *s, uint64_t *out);
/* "2 MiB", "64 KiB", "1.5 GiB"; returns buf. */
const char *text_size(uint64_t bytes, char *buf, size_t size);
/* Lower-case hex and a NUL; out has 2 * len + 1 bytes. */
void text_hex(const uint8_t *bytes, size_t len, char *out);
/* "2026-11-22 14:03:05" in UTC, or "-" for 0; returns buf. */
const char *text_time(uint64_t seconds, char *buf, size_t size);
/* Edits between two words, for "did you mean". */
unsigned text_distance(const char *a, const char *b);

#endif
