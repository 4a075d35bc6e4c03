# All that the targets named test-* need, built before any of them runs: side by side they must find it done. The last
# fragment, because what they need is named by variables of the others.
TEST_NEEDS := $(shell sed -n 's/^test-[a-z0-9-]*: *//p' mk/*.mk | tr -d '|')
$(eval builds-for-tests: $(TEST_NEEDS))
