# How open, match, memory, following and eviction grow; quoted in docs/BENCHMARKS.md.
#   make bench-growth GROWTH_ARGS="--count 1M --shards 8" GROWTH_DIR=/dev/shm
# 10 million blocks take 4 GiB of memory with their contents on tmpfs.
GROWTH_BENCH := $(O)/bench/growth
GROWTH_DIR ?= /dev/shm
$(GROWTH_BENCH): $(call objs,$(wildcard bench/growth/*.c)) $(O)/libcistern_internal.a | $(O)/bench/hf3fs
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $^ $(ALL_LDFLAGS) $(CISTERN_LIBS) -lm
$(O)/bench/hf3fs:
	@mkdir -p $(@D)
	ln -sfn ../hf3fs $@

.PHONY: bench-growth
bench-growth: $(GROWTH_BENCH) $(USRBIO_SO)
	@$(GROWTH_BENCH) --dir $(GROWTH_DIR) $(GROWTH_ARGS)
