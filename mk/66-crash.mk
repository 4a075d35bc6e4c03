# make test-crash: processes that are killed at random moments and at named points, and what a later open finds. See
# tests/crash/test_crash.py. CRASH_RUNS is the number of random kills; check-crash is the long form.
CRASH_RUNS ?= 10
CRASH_VICTIM := $(O)/tests/crash/victim

$(CRASH_VICTIM): $(O)/obj/tests/crash/victim.o $(O)/libcistern_internal.a | $(O)/tests/crash/hf3fs
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $(filter %.o %.a,$^) $(ALL_LDFLAGS) $(CISTERN_LIBS)
# The io layer looks for the drop-in beside the file that it is linked into.
$(O)/tests/crash/hf3fs:
	@mkdir -p $(@D)
	ln -sfn ../../hf3fs $@

.PHONY: test-crash check-crash
test-crash: setup-test $(CRASH_VICTIM) $(USRBIO_SO)
	@CRASH_RUNS=$(CRASH_RUNS) CISTERN_BUILD=$(abspath $(O)) $(PYTEST) tests/crash
check-crash: setup-test
	@$(MAKE) --no-print-directory O=$(O) CRASH_RUNS=100 test-crash

# Storage that hangs, fails and falls short on demand (tests/fakes/slow_usrbio.h), for tests/unit/slow_store.h.
SLOW_USRBIO := $(FAKE_DIR)/slow/libhf3fs_api_shared.so
$(SLOW_USRBIO): tests/fakes/slow_usrbio.c tests/fakes/slow_usrbio.h include/hf3fs_usrbio.h
	@mkdir -p $(@D)
	$(FAKE_CC) -pthread -ldl -Wl,-soname,$(@F)
$(O)/tests/unit/test_deadline $(O)/tests/unit/test_deadline_open $(O)/tests/unit/test_breaker $(O)/tests/unit/test_renew $(O)/tests/unit/test_bad_blocks $(O)/tests/unit/test_gate: | $(SLOW_USRBIO) $(USRBIO_SO)
