# make check-aarch64: the tree built for aarch64, and what of its tests an emulator can run (qemu-user). In check-all.
#
# The libraries come from tools/aarch64_sysroot, the compiler and the emulator from tools/setup.sh aarch64. There is no
# io_uring below qemu-user: the drop-in chooses threads by itself. Left out, each with its reason:
#   bad_input breaker     one of their tests each forks with threads
#   follow                runs its own program again, which the emulator does not start
#   loader                one of its tests preloads a stand-in for 3FS
#   index zero_alloc      the memory of the process, and its allocations, are the emulator's too
#   page                  the emulator tells each thread another start of the process
A64      := $(abspath $(O))/aarch64
A64_ROOT := $(A64)/sysroot
A64_LIB  := $(A64_ROOT)/usr/lib/aarch64-linux-gnu
A64_CC   := aarch64-linux-gnu-gcc -isystem $(A64_ROOT)/usr/include -isystem $(A64_ROOT)/usr/include/aarch64-linux-gnu \
            -L$(A64_LIB) -Wl,-rpath-link,$(A64_LIB)
A64_MAKE  = $(MAKE) --no-print-directory O=$(A64) SETUP=no SAN= CC='$(A64_CC)'
A64_SKIP := bad_input breaker follow loader index zero_alloc page
A64_UNIT  = $(filter-out $(A64_SKIP),$(UNIT_SRC:tests/unit/test_%.c=%))
# What starts a program of the other machine; tests find them below $(A64)/run as they find others below $(O).
A64_RUN   = $(addprefix $(A64)/run/,cistern $(addprefix tests/golden/,make_golden dump engine_store) \
            $(A64_UNIT:%=tests/unit/test_%))

.PHONY: check-aarch64 aarch64-build aarch64-store aarch64-golden
check-aarch64: | setup-aarch64
	@tools/aarch64_sysroot $(A64_ROOT)
	@$(A64_MAKE) -k $(TEST_JOBS) lib cli fakes golden-programs $(A64_UNIT:%=$(A64)/tests/unit/test_%) >$(A64)/build.log 2>&1 || \
	    { tail -n 30 $(A64)/build.log; exit 1; }
	@for run in $(A64_RUN); do mkdir -p $${run%/*}; printf '#!/bin/sh\nexec qemu-aarch64-static -L /usr/aarch64-linux-gnu \
	-E LD_LIBRARY_PATH=%s %s "$$@"\n' $(A64_LIB) $(A64)/$${run#$(A64)/run/} >$$run; chmod +x $$run; done
	@$(MAKE) --no-print-directory $(CLI) $(USRBIO_SO)
	@CISTERN_BUILD=$(A64) tests/harness/run --logs $(A64)/logs --make "$(TEST_MAKE)" --jobs $(TEST_SIDE) --timeout 1200 \
	    target:aarch64-store target:aarch64-golden $(A64_UNIT:%=$(A64)/run/tests/unit/test_%)

aarch64-store:
	@A64=$(A64) CISTERN=$(abspath $(CLI)) $(PYTEST) tests/aarch64
aarch64-golden:
	@CISTERN_BUILD=$(A64)/run CISTERN=$(A64)/run/cistern $(PYTEST) tests/golden
