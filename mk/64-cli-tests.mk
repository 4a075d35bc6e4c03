# Tests of the command: exit codes, words, JSON, what stat and ls say of a store that a bench filled.
.PHONY: test-cli
test-cli: $(CLI) $(USRBIO_SO) | setup-test
	CISTERN=$(abspath $(CLI)) $(PYTEST) tests/e2e/test_cli.py
TEST_TARGETS += test-cli
