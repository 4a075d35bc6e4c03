# make test-encrypted: tests of the engine once more, on encrypted stores (tests/harness/store.h), and some damage and kills.
# Those on tests/unit/evict_fixture.h also count nonces: full disks, carrying over, and lives of a writer.
ENCRYPTED_UNIT := engine engine_inside evict evict_faults follow admission generations pins bad_blocks zero_alloc
ENCRYPTED_PROGS := $(ENCRYPTED_UNIT:%=$(O)/tests/unit/test_%)
ENCRYPTED_KEY = $(abspath $(O))/tests/encrypted.key
TIMEOUT_test-encrypted := 900

.PHONY: test-encrypted
test-encrypted: setup-test $(ENCRYPTED_PROGS) $(DAMAGE_PROG) $(CRASH_VICTIM) $(USRBIO_SO)
	@umask 077 && mkdir -p $(dir $(ENCRYPTED_KEY)) && printf '%064x\n' 1234567890 > $(ENCRYPTED_KEY)
	@for t in $(ENCRYPTED_PROGS); do \
	    CISTERN_TEST_KEY_FILE=$(ENCRYPTED_KEY) ZERO_ALLOC_PUTS=100000 $$t || exit 1; done
	@CISTERN_TEST_KEY_FILE=$(ENCRYPTED_KEY) CRASH_RUNS=5 CISTERN_DAMAGE_SEEDS=2 CISTERN_BUILD=$(abspath $(O)) \
	    $(PYTEST) tests/crash tests/damage
