# Simulated storage (tests/sim/simfs.h is its model) and what runs on it.
#
#   make test-sim             the simulator itself, fail-at-N, and some twenty scenarios
#   make sim SEED=n           one scenario again
#   make sim SEEDS=200        so many with fresh seeds; FROM=n for the seeds n, n+1, ...
#   make check-sim            200, printed seeds
#   make sim-10k              10,000; half an hour of two idle cores, JOBS=n at a time
#   make check-mutants        that 200 scenarios notice each bug of tests/mutants
SIM_COMMON := $(call objs,$(patsubst %,tests/sim/%.c,simfs sim_files sim_ring sim_verbs))
SIM_TESTS  := $(sort $(wildcard tests/sim/test_*.c))
SIM_PROGS  := $(patsubst tests/sim/%.c,$(O)/tests/sim/%,$(SIM_TESTS))
SIM_FLAGS  := -Itests/sim
TIMEOUT_test-sim := 900
$(O)/obj/tests/sim/%.o: CPPFLAGS += $(SIM_FLAGS)

# Allocations of the library can fail, where no sanitizer brings its own.
SIM_LD_test_fail_at := $(if $(SAN),,-Wl,--wrap=malloc -Wl,--wrap=calloc -Wl,--wrap=realloc -Wl,--wrap=aligned_alloc -Wl,--wrap=mmap)

$(O)/tests/sim/test_fail_at: $(O)/obj/tests/sim/failat.o
# Not position-independent, so that a return address names a line of code.
$(O)/tests/sim/%: $(O)/obj/tests/sim/%.o $(SIM_COMMON) $(O)/libcistern_internal.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -no-pie $(SIM_LD_$(*F)) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(ALL_LDFLAGS) -lcmocka $(CISTERN_LIBS) -lm
SCENARIO := $(O)/tests/sim/scenario
$(SCENARIO): $(call objs,$(patsubst %,tests/sim/%.c,world doubts checks audit pace)) | setup-test

# How many, and from which seed on: fresh ones unless told. A mutant may take MUTANT_SEEDS.
SEEDS ?= 200
MUTANT_SEEDS ?= 200
FROM  ?=
SEED  ?=

.PHONY: sim test-sim check-sim sim-10k check-mutants
sim: $(SCENARIO)
	@$(SCENARIO) $(if $(SEED),--seed $(SEED) $(V),--seeds $(SEEDS) $(if $(FROM),--from $(FROM)) $(if $(JOBS),--jobs $(JOBS)))
test-sim: setup-test $(SIM_PROGS) $(SCENARIO)
	@$(O)/tests/sim/test_manners
	@$(O)/tests/sim/test_daemon
	@tests/sim/run_fail_at --program $(O)/tests/sim/test_fail_at
	@$(SCENARIO) --seeds 20 --again 3 $(if $(FROM),--from $(FROM))
check-sim: setup-test $(SCENARIO)
	@$(SCENARIO) --seeds $(SEEDS) --again 3 $(if $(FROM),--from $(FROM))
sim-10k: $(SCENARIO)
	@$(SCENARIO) --seeds 10000 $(if $(FROM),--from $(FROM)) $(if $(JOBS),--jobs $(JOBS))
check-mutants: setup-test
	@tests/mutants/run --work $(O)/mutants --seeds $(MUTANT_SEEDS)
