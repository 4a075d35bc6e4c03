# make test-operations: every command of docs/OPERATIONS.md, run in its order.
.PHONY: test-operations
test-operations: $(CLI) $(USRBIO_SO) | setup-test
	CISTERN=$(abspath $(CLI)) $(PYTEST) tests/e2e/test_operations.py
TIMEOUT_test-operations := 900
