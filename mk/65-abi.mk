# make test-abi: symbols, what release objects refer to, load and unload, the installed tree, manual pages; tests/abi/*.py.
ABI_PROGS := $(patsubst tests/abi/%.c,$(O)/tests/abi/%,$(wildcard tests/abi/unload_*.c))

# Linked with neither library: they load what their first argument names.
$(O)/tests/abi/%: $(O)/obj/tests/abi/%.o
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $< $(ALL_LDFLAGS) -ldl

.PHONY: test-abi
test-abi: setup-test all $(ABI_PROGS) $(O)/tests/harness/no_uring
	@CC='$(CC)' CXX='$(CXX)' MAKE='$(TEST_MAKE)' $(PYTEST) tests/abi
