# Fuzzing with libFuzzer: tests/fuzz/fuzz_*.c, one target each, on the library's sources built by clang with
# AddressSanitizer and UBSan. docs/TESTING.md says what each target promises.
#
#   make check-fuzz                      every target for FUZZ_SECONDS; fails on any finding
#   make check-fuzz-plants               every target finds a bug that is planted in a copy of the sources
#   make fuzz T=frames SECONDS=600       one target for longer; what it learns is kept in $(O)/fuzz/found/frames
#   make fuzz T=frames INPUT=path        one input, such as the reproducer of a finding
#
# FUZZ_SEED is the seed of all of them. Findings leave their inputs in $(O)/fuzz/reproducers/<target>.
FUZZ_CC      ?= clang
FUZZ_SECONDS ?= 10
FUZZ_SEED    ?= 1
FUZZ_PLANT_RUNS ?= 100000
FUZZ_O       := $(O)/fuzz
FUZZ_TARGETS := $(patsubst tests/fuzz/fuzz_%.c,%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
FUZZ_HELP    := $(filter-out tests/fuzz/fuzz_%,$(sort $(wildcard tests/fuzz/*.c)))
FUZZ_CLI     := cli/args.c cli/prompt.c cli/space_file.c cli/text.c
FUZZ_SAN     := address,undefined
FUZZ_CFLAGS  := -std=gnu11 -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=all -fsanitize=fuzzer-no-link,$(FUZZ_SAN)
FUZZ_LIBS    := $(CISTERN_LIBS) -luring -lm -pthread
FUZZ_RUN      = tests/fuzz/run --build $(FUZZ_O) --seed $(FUZZ_SEED)
fuzz_objs     = $(patsubst %.c,$(FUZZ_O)/obj/%.o,$(1))
SETUP_NEEDS  += fuzz
setup-fuzz: $(O)/.setup-fuzz
$(O)/.setup-fuzz: | $(O)/.setup-build

$(FUZZ_O)/obj/%.o: %.c | setup-fuzz
	@mkdir -p $(@D)
	$(FUZZ_CC) $(CPPFLAGS) $(FUZZ_CFLAGS) $(WARN) -MMD -MP $(CFLAGS_$(subst /,_,$*)) -c -o $@ $<

# What takes bytes from disk, from a caller or from a command line, and what that needs.
FUZZ_SRC := $(BASE_SRC) $(sort $(foreach d,io pool key segment admin,$(wildcard src/$(d)/*.c))) \
            src/engine/config.c src/engine/policy.c src/engine/contents.c src/engine/options.c \
            src/engine/cluster.c src/engine/cluster_file.c $(wildcard src/metrics/*.c)
$(FUZZ_O)/libcistern.a: $(call fuzz_objs,$(FUZZ_SRC))
	rm -f $@ && ar rcs $@ $^
$(FUZZ_O)/libusrbio.a: $(call fuzz_objs,$(USRBIO_SRC))
	rm -f $@ && ar rcs $@ $^
$(FUZZ_O)/libhelp.a: $(call fuzz_objs,$(FUZZ_HELP) $(FUZZ_CLI))
	rm -f $@ && ar rcs $@ $^

FUZZ_ARCHIVES := $(FUZZ_O)/libhelp.a $(FUZZ_O)/libusrbio.a $(FUZZ_O)/libcistern.a
FUZZ_LINK      = $(FUZZ_CC) -fsanitize=fuzzer,$(FUZZ_SAN) -o $@ $(filter %.o,$^) $(FUZZ_ARCHIVES) $(FUZZ_LIBS)
$(FUZZ_O)/%: $(FUZZ_O)/obj/tests/fuzz/fuzz_%.o $(FUZZ_ARCHIVES)
	$(FUZZ_LINK)

# A planted bug is one changed place of one source, compiled and linked before the archive that has the right one.
FUZZ_PLANTS  = $(shell python3 tests/fuzz/plants.py --names)
plant_target = $(shell python3 tests/fuzz/plants.py --target $(1))
plant_source = $(shell python3 tests/fuzz/plants.py --source $(1))
$(FUZZ_O)/planted/%: tests/fuzz/plants.py $(FUZZ_SRC) $(USRBIO_SRC) $(FUZZ_CLI) | fuzz-programs
	@mkdir -p $(@D)
	@python3 tests/fuzz/plants.py --plant $* --to $@.c
	@$(FUZZ_CC) $(CPPFLAGS) $(FUZZ_CFLAGS) -iquote $(dir $(call plant_source,$*)) -c -o $@.o $@.c
	@$(FUZZ_CC) -fsanitize=fuzzer,$(FUZZ_SAN) -o $@ $(FUZZ_O)/obj/tests/fuzz/fuzz_$(call plant_target,$*).o $@.o \
	    $(FUZZ_ARCHIVES) $(FUZZ_LIBS)

.PHONY: fuzz-programs fuzz fuzz-merge check-fuzz check-fuzz-plants
fuzz-programs: $(addprefix $(FUZZ_O)/,$(FUZZ_TARGETS))
check-fuzz: setup-fuzz
	@$(MAKE) --no-print-directory -s $(TEST_JOBS) O=$(O) fuzz-programs
	@$(FUZZ_RUN) check --seconds $(FUZZ_SECONDS) $(FUZZ_TARGETS)
check-fuzz-plants: setup-fuzz
	@$(MAKE) --no-print-directory -s $(TEST_JOBS) O=$(O) fuzz-programs
	@$(MAKE) --no-print-directory -s $(TEST_JOBS) O=$(O) $(addprefix $(FUZZ_O)/planted/,$(FUZZ_PLANTS))
	@$(FUZZ_RUN) plants --runs $(FUZZ_PLANT_RUNS) $(FUZZ_PLANTS)
fuzz: $(FUZZ_O)/$(T)
	@$(FUZZ_RUN) one $(T) --seconds $(or $(SECONDS),60) $(if $(INPUT),--input $(INPUT))
# Adds to tests/fuzz/corpus what `make fuzz` found worth keeping.
fuzz-merge: $(if $(T),$(FUZZ_O)/$(T),fuzz-programs)
	@$(FUZZ_RUN) merge $(or $(T),$(FUZZ_TARGETS))

-include $(shell find $(FUZZ_O)/obj -name '*.d' 2>/dev/null)
