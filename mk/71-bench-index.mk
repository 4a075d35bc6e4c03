# What keys and the index cost; quoted in docs/BENCHMARKS.md. BENCH_BLOCKS="1000000" for other sizes.
INDEX_BENCH := $(O)/bench/index_bench
$(INDEX_BENCH): $(call objs,bench/index_bench.c $(BASE_SRC) $(wildcard src/key/*.c src/index/*.c))
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $^ $(ALL_LDFLAGS) $(CISTERN_LIBS)

.PHONY: bench-index
bench-index: $(INDEX_BENCH)
	$(INDEX_BENCH) $(BENCH_BLOCKS)
