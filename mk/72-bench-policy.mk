# What eviction and admission are worth; quoted in docs/BENCHMARKS.md. Counts, no times.
#   make bench-policy TRACE=FILE.jsonl POLICY_ARGS="--capacity 1000,5000"
# Without TRACE: a synthetic trace.
REPLAY_POLICY := $(O)/bench/replay_policy
$(REPLAY_POLICY): $(call objs,bench/replay_policy.c $(wildcard bench/replay/*.c) src/engine/policy.c src/engine/ghost.c)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $^ $(ALL_LDFLAGS) -ljansson

.PHONY: bench-policy test-policy
bench-policy: $(REPLAY_POLICY)
	@$(REPLAY_POLICY) $(if $(TRACE),--trace $(TRACE)) $(POLICY_ARGS)

# What it must be worth. Real traces: $CISTERN_TRACES, by default beside the repository; without them a synthetic one.
test-policy: setup-test $(REPLAY_POLICY)
	@$(PYTEST) -rs tests/trace

# The same choices on every machine: no fused multiply-add in what is compared.
CFLAGS_src_engine_policy := -ffp-contract=off
