# What storage that stops answering costs; quoted in docs/BENCHMARKS.md. BENCH_DIR=DIR for another place than /tmp.
HANG_BENCH := $(O)/bench/hang
$(HANG_BENCH): $(call objs,bench/hang.c) $(CISTERN_SO) | $(SLOW_USRBIO) $(USRBIO_SO)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $(filter %.o,$^) -L$(O) -lcistern $(ALL_LDFLAGS) -ldl -Wl,-rpath,'$$ORIGIN/..'

.PHONY: bench-hang
bench-hang: setup-test $(HANG_BENCH) $(MINILLM)
	$(HANG_BENCH) $(abspath $(SLOW_USRBIO)) $(BENCH_DIR)
	bench/hang_engine.py --build $(O)
