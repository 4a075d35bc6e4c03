# Golden files: stores that releases wrote stay readable for ever, by the library and by the independent reader.
# tests/golden/v1 was made once, with `make_golden tests/golden/v1`; it is never made again.
GOLDEN_PROGS := $(O)/tests/golden/make_golden $(O)/tests/golden/dump

$(GOLDEN_PROGS): $(O)/tests/golden/%: $(O)/obj/tests/golden/%.o $(O)/libcistern_internal.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $^ $(ALL_LDFLAGS) $(CISTERN_LIBS)

.PHONY: golden-programs test-golden
golden-programs: $(GOLDEN_PROGS)
test-golden: $(GOLDEN_PROGS) setup-test
	CISTERN_BUILD=$(abspath $(O)) /usr/bin/python3 -m pytest -q -p no:cacheprovider tests/golden
