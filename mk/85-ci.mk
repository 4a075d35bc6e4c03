# What CI adds to lint and test: the same tests with sanitizers, and the long ones.
#
#   make check-asan   AddressSanitizer (leaks too, where ptrace is allowed) and UBSan, in $(O)/asan
#   make check-tsan   ThreadSanitizer, in $(O)/tsan
#   make check-long   more runs of the tests that have a number of runs
#   make check-versions   this version and the one before it on one root (mk/69-versions.mk)
#   make check-fuzz, check-fuzz-plants   the fuzz targets; the bugs that they must find (mk/68-fuzz.mk)
#   make check-sim, check-mutants   200 scenarios on simulated storage, and that they notice bugs (67-sim.mk)
#   make check-stress a minute of 16 writers and 16 readers, one killed every second (69-stress.mk)
#   make check-deb    the Debian packages: built, lintian, installed on a clean root and purged (91-deb.mk)
#   make check-ci     these ten
#   make check-all    lint, test, check-ci, aarch64 under qemu-user (92-aarch64.mk), a fresh machine (tools/try_fresh.sh)
ASAN_TESTS ?= test-conform test-golden test-damage test-crash test-strict
TSAN_TESTS ?= test-conform
LONG_TESTS ?= test-crash test-damage
LONG_RUNS  ?= CRASH_RUNS=100 CISTERN_DAMAGE_SEEDS=40
CHECK_TIMEOUT ?= 1500
ASAN_ENV := ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1:abort_on_error=0 \
            UBSAN_OPTIONS=print_stacktrace=1
TSAN_ENV := TSAN_OPTIONS=halt_on_error=0:second_deadlock_stack=1:history_size=5:die_after_fork=0
# One thread alone: nothing for ThreadSanitizer to see, and slow under it. evict_faults exchanges operations and reads
# counts of the keeper under a running store: the races are its own; so do seven more.
TSAN_SKIP ?= toc toc_hostile head check names options root space evict_faults generations gone segments heat merge pins usage
# ThreadSanitizer's map of memory and much address space randomization do not go together.
NO_ASLR   = $(shell setarch $$(uname -m) -R true 2>/dev/null && echo setarch $$(uname -m) -R)
known     = $(filter $(MK_TARGETS),$(1))

.PHONY: check-ci check-asan check-tsan check-long check-all san-tests
check-ci: setup-test
	@$(RUN_TESTS) --target-timeout $(CHECK_TIMEOUT) target:check-asan target:check-tsan target:check-fuzz target:check-fuzz-plants \
	    target:check-long target:check-versions target:check-sim target:check-mutants target:check-stress target:check-deb

check-asan: setup-test
	@$(ASAN_ENV) $(MAKE) --no-print-directory O=$(O)/asan SAN=address,undefined CFLAGS='-O1 -g' \
	    SAN_TESTS='$(ASAN_TESTS)' san-tests
check-tsan: setup-test
	@$(TSAN_ENV) $(NO_ASLR) $(MAKE) --no-print-directory O=$(O)/tsan SAN=thread CFLAGS='-O1 -g' \
	    SAN_TESTS='$(TSAN_TESTS)' SAN_SKIP='$(TSAN_SKIP)' san-tests
check-long: setup-test
	@$(LONG_RUNS) $(RUN_TESTS) --logs $(TEST_LOGS)/long --target-timeout $(CHECK_TIMEOUT) \
	    $(addprefix target:,$(call known,$(LONG_TESTS)))

# Inside a sanitizer's build folder.
san-tests: setup-test
	-@$(MAKE) --no-print-directory -k $(TEST_JOBS) lib unit-programs
	@$(RUN_TESTS) --timeout 400 --target-timeout $(CHECK_TIMEOUT) build:lib build:unit-programs \
	    $(filter-out $(SAN_SKIP:%=$(O)/tests/unit/test_%),$(UNIT_RUN)) \
	    $(addprefix target:,$(call known,$(SAN_TESTS)))

check-all: setup-test
	@$(RUN_TESTS) --target-timeout 5400 target:lint target:test target:check-ci target:check-aarch64 target:check-fresh

.PHONY: check-fresh
check-fresh:
	@tools/try_fresh.sh
