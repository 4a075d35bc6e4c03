# Tests. Each tests/unit/test_*.c is one cmocka program on the internal archives, so that it can look inside a layer.
#
#   make test                 the unit programs and every target named test-* that a fragment of mk/ defines
#   make test-unit            the unit programs
#   make test-unit T=toc      those whose name contains "toc"
#
# A fragment adds a kind of test by defining a target test-<kind>; long ones are named check-* and belong to
# `make check-ci` or `make check-all`. A program may have LIBS_test_<name> for libraries of its own and
# TIMEOUT_<target> seconds; tests find the build folder in $CISTERN_BUILD.
T ?=
UNIT_SRC   := $(sort $(wildcard tests/unit/test_*.c))
UNIT_PROGS := $(patsubst tests/unit/%.c,$(O)/tests/unit/%,$(UNIT_SRC))
UNIT_RUN    = $(if $(T),$(foreach p,$(UNIT_PROGS),$(if $(findstring $(T),$(notdir $(p))),$(p))),$(UNIT_PROGS))
TEST_LOGS  := $(O)/test-logs
TEST_MAKE   = $(MAKE) --no-print-directory O=$(O)
RUN_TESTS   = tests/harness/run --logs $(TEST_LOGS) --make "$(TEST_MAKE)"
MK_TARGETS  = $(shell sed -n 's/^\(test-[a-z0-9-]*\):.*/\1/p' mk/*.mk)
TEST_TARGETS += $(filter-out test-unit,$(MK_TARGETS))
# The longest first, so that the last ones to end are short.
TEST_FIRST    = $(filter $(TEST_TARGETS),test-sim test-encrypted test-metrics test-conform test-live-page test-admin-faults)
TEST_ORDER    = $(TEST_FIRST) $(sort $(filter-out $(TEST_FIRST),$(TEST_TARGETS)))
# So many tests side by side.
TEST_SIDE  ?= $(shell nproc)
# As many jobs as CPUs, unless make was told already.
TEST_JOBS   = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc))
export CISTERN_BUILD := $(abspath $(O))
export CISTERN_SAN := $(SAN)

# The drop-in's objects too, for tests that look inside it.
$(O)/libusrbio_internal.a: $(call objs,$(USRBIO_SRC))
	rm -f $@ && ar rcs $@ $^

# The io layer looks for the drop-in beside the file that it is linked into.
$(O)/tests/unit/hf3fs:
	@mkdir -p $(@D)
	ln -sfn ../../hf3fs $@

$(O)/tests/unit/%: $(O)/obj/tests/unit/%.o $(O)/libcistern_internal.a $(O)/libusrbio_internal.a | $(O)/tests/unit/hf3fs
	$(CC) $(ALL_CFLAGS) -o $@ $< $(O)/libcistern_internal.a $(O)/libusrbio_internal.a $(O)/libcistern_internal.a \
	    $(ALL_LDFLAGS) -lcmocka $(LIBS_$(*F)) $(CISTERN_LIBS) -luring -lm

$(call objs,$(UNIT_SRC)): | setup-test

# no_uring COMMAND: runs it with io_uring forbidden.
$(O)/tests/harness/%: $(O)/obj/tests/harness/%.o
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $< $(ALL_LDFLAGS)

# -rs: why a test was left out is part of the output.
PYTEST := /usr/bin/python3 -m pytest -q -rs -p no:cacheprovider
.PHONY: test-harness
test-harness: setup-test $(O)/tests/harness/no_uring
	@$(PYTEST) tests/harness

.PHONY: unit-programs builds-for-tests test-unit test
unit-programs: setup-test $(UNIT_PROGS)
# and what the targets need: 99-builds.mk
builds-for-tests: unit-programs

# What does not build is a failure of its own and does not keep the rest from running.
test-unit: setup-test
	-@$(MAKE) --no-print-directory -k $(TEST_JOBS) $(USRBIO_SO) unit-programs
	@$(RUN_TESTS) --jobs $(TEST_SIDE) build:unit-programs $(UNIT_RUN)

test: setup-test
	-@$(MAKE) --no-print-directory -k $(TEST_JOBS) all builds-for-tests
	@$(RUN_TESTS) --jobs $(TEST_SIDE) build:all build:builds-for-tests $(addprefix target:,$(TEST_ORDER)) $(UNIT_RUN) \
	    $(foreach t,$(sort $(TEST_TARGETS)),$(if $(TIMEOUT_$(t)),--timeout-of $(t)=$(TIMEOUT_$(t))))
