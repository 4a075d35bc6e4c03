# make test-stress: many processes on one bounded directory, one killed every second (tests/stress/test_stress.py).
# check-stress is the form that CI runs: a minute with 16 writers and 16 readers.
STRESS_SECONDS ?= 10
STRESS_EACH ?= 4
STRESS_WORKER := $(O)/tests/stress/worker

$(STRESS_WORKER): $(call objs,tests/stress/worker.c tests/stress/sampler.c) $(O)/libcistern_internal.a | $(O)/tests/stress/hf3fs
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $(filter %.o %.a,$^) $(ALL_LDFLAGS) $(CISTERN_LIBS)
# The io layer looks for the drop-in beside the file that it is linked into.
$(O)/tests/stress/hf3fs:
	@mkdir -p $(@D)
	ln -sfn ../../hf3fs $@

.PHONY: test-stress check-stress
test-stress: setup-test $(STRESS_WORKER) $(USRBIO_SO)
	@STRESS_SECONDS=$(STRESS_SECONDS) STRESS_EACH=$(STRESS_EACH) CISTERN_BUILD=$(abspath $(O)) $(PYTEST) -s tests/stress
check-stress: setup-test
	@$(MAKE) --no-print-directory O=$(O) STRESS_SECONDS=60 STRESS_EACH=16 test-stress
