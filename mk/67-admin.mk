# make test-admin: the operator's verbs on stores that are really damaged. See tests/e2e/test_admin.py.
ADMIN_WRITER := $(O)/tests/admin/writer

$(ADMIN_WRITER): $(O)/obj/tests/admin/writer.o $(CISTERN_SO) $(USRBIO_SO)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $< -L$(O) -lcistern $(ALL_LDFLAGS) -Wl,-rpath,'$$ORIGIN/../..'

.PHONY: test-admin
test-admin: $(CLI) $(USRBIO_SO) $(ADMIN_WRITER) | setup-test
	CISTERN=$(abspath $(CLI)) $(PYTEST) tests/e2e/test_admin.py

# The same functions on simulated storage, each call failing in turn; see tests/admin/fail_at.c.
ADMIN_FAULTS := $(O)/tests/admin/fail_at
$(O)/obj/tests/admin/fail_at.o: CPPFLAGS += -Itests/sim
$(ADMIN_FAULTS): $(O)/obj/tests/admin/fail_at.o $(call objs,$(patsubst %,tests/sim/%.c,failat simfs sim_files sim_ring sim_verbs)) \
    $(O)/libcistern_internal.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -no-pie $(if $(SAN),,-Wl,--wrap=malloc -Wl,--wrap=calloc -Wl,--wrap=realloc -Wl,--wrap=aligned_alloc -Wl,--wrap=mmap) \
	    -o $@ $(filter %.o,$^) $(filter %.a,$^) $(ALL_LDFLAGS) $(CISTERN_LIBS) -lm

.PHONY: test-admin-faults
test-admin-faults: setup-test $(ADMIN_FAULTS)
	@$(PYTEST) tests/e2e/test_admin_faults.py
