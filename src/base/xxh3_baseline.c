/* xxh3_baseline.c - XXH3 for any CPU of the target: SSE2, NEON or scalar. */
#define XXH3_NAME(x) xxh3_baseline_##x
#include "base/xxh3_build.h"
