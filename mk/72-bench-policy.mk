# What eviction and admission are worth; quoted in docs/BENCHMARKS.md. Counts, no times.
#   make bench-policy TRACE=FILE.jsonl POLICY_ARGS="--capacity 1000,5000"
# Without TRACE: a synthetic trace.
REPLAY_POLICY := $(O)/bench/replay_policy
$(REPLAY_POLICY): $(call objs,bench/replay_policy.c $(wildcard bench/replay/*.c) cli/replay_trace.c src/engine/policy.c src/engine/ghost.c)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $^ $(ALL_LDFLAGS) -ljansson

.PHONY: bench-policy test-policy
bench-policy: $(REPLAY_POLICY)
	@$(REPLAY_POLICY) $(if $(TRACE),--trace $(TRACE)) $(POLICY_ARGS)

# What it must be worth. Real traces: $CISTERN_TRACES, by default beside the repository; without them a synthetic one.
test-policy: setup-test $(REPLAY_POLICY) $(O)/bench/replay_store $(USRBIO_SO)
	@$(PYTEST) -rs tests/trace

# The same choices on every machine: no fused multiply-add in what is compared.
CFLAGS_src_engine_policy := -ffp-contract=off

#   make bench-policy-store TRACE=FILE.jsonl     the same through the store itself, in /dev/shm
REPLAY_STORE := $(O)/bench/replay_store
$(REPLAY_STORE): $(call objs,bench/replay_store.c $(wildcard bench/replay/*.c) cli/replay_trace.c) $(O)/libcistern_internal.a | $(O)/bench/hf3fs
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $(filter %.o %.a,$^) $(ALL_LDFLAGS) $(CISTERN_LIBS)

.PHONY: bench-policy-store
bench-policy-store: $(REPLAY_STORE) $(USRBIO_SO)
	@$(REPLAY_STORE) $(if $(TRACE),--trace $(TRACE)) $(POLICY_ARGS)
