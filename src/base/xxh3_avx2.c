/* xxh3_avx2.c - XXH3 built with -mavx2 (see mk/30-cistern.mk); elsewhere a second copy of the
 * baseline. */
#define XXH3_NAME(x) xxh3_avx2_##x
#include "base/xxh3_build.h"
