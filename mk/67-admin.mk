# make test-admin: the operator's verbs on stores that are really damaged. See tests/e2e/test_admin.py.
ADMIN_WRITER := $(O)/tests/admin/writer

$(ADMIN_WRITER): $(O)/obj/tests/admin/writer.o $(CISTERN_SO) $(USRBIO_SO)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $< -L$(O) -lcistern $(ALL_LDFLAGS) -Wl,-rpath,'$$ORIGIN/../..'

.PHONY: test-admin
test-admin: $(CLI) $(USRBIO_SO) $(ADMIN_WRITER) | setup-test
	CISTERN=$(abspath $(CLI)) $(PYTEST) tests/e2e/test_admin.py
