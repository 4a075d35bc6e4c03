# Tests of the command: exit codes, words, JSON, what stat and ls say of a store that a bench filled; plan, doctor, clusters;
# and the walk through RTP-LLM's own page (CISTERN_REFERENCE_PAGE, else beside the repository).
.PHONY: test-cli test-plan test-doctor test-replay test-clusters test-reference
test-cli: $(CLI) $(USRBIO_SO) | setup-test
	CISTERN=$(abspath $(CLI)) $(PYTEST) tests/e2e/test_cli.py
test-plan: $(CLI) $(USRBIO_SO) | setup-test
	CISTERN=$(abspath $(CLI)) $(PYTEST) tests/e2e/test_plan.py tests/e2e/test_plan_emit.py
test-doctor: $(CLI) $(USRBIO_SO) $(FAKE_HF3FS) $(FAKE_CUDA) $(SKEWED_CLOCK) $(STUCK_EXIT) $(O)/tests/harness/no_uring | setup-test
	CISTERN_BUILD=$(abspath $(O)) CISTERN=$(abspath $(CLI)) $(PYTEST) tests/e2e/test_doctor.py
test-replay: $(CLI) $(USRBIO_SO) | setup-test
	CISTERN=$(abspath $(CLI)) $(PYTEST) tests/e2e/test_replay.py
test-clusters: $(CLI) $(MINILLM) $(USRBIO_SO) | setup-test
	CISTERN_BUILD=$(abspath $(O)) CISTERN=$(abspath $(CLI)) $(PYTEST) tests/e2e/test_clusters.py
test-reference: all $(FAKE_CUDA) | setup-test
	CISTERN_BUILD=$(abspath $(O)) CISTERN=$(abspath $(CLI)) $(PYTEST) tests/e2e/test_reference_page.py
TEST_TARGETS += test-replay test-cli test-plan test-doctor test-clusters test-reference
