# make test-metrics: the statistics page, cistern metrics, cistern stat --live. See tests/e2e/test_metrics.py.
$(O)/tests/e2e/engine: $(O)/obj/tests/e2e/engine.o $(CISTERN_SO)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $< -L$(O) -lcistern $(ALL_LDFLAGS) -Wl,-rpath,'$$ORIGIN/../..'
.PHONY: test-metrics
test-metrics: $(CLI) $(USRBIO_SO) $(O)/tests/e2e/engine | setup-test
	CISTERN_BUILD=$(abspath $(O)) CISTERN=$(abspath $(CLI)) $(PYTEST) tests/e2e/test_metrics.py
TEST_TARGETS += test-metrics
