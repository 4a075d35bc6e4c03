# Golden files: stores that releases wrote stay readable for ever, by the library and by the independent reader.
# tests/golden/v1 was made once, with `make_golden tests/golden/v1`, v1-0.1 with `engine_store make`, and encrypted with
# tests/admin/writer; they are never made again.
GOLDEN_PROGS := $(O)/tests/golden/make_golden $(O)/tests/golden/dump $(O)/tests/golden/engine_store

$(GOLDEN_PROGS): $(O)/tests/golden/%: $(O)/obj/tests/golden/%.o $(O)/libcistern_internal.a | $(O)/tests/golden/hf3fs
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $^ $(ALL_LDFLAGS) $(CISTERN_LIBS)

# The io layer looks for the drop-in beside the file that it is linked into.
$(O)/tests/golden/hf3fs:
	@mkdir -p $(@D)
	ln -sfn ../../hf3fs $@

.PHONY: golden-programs test-golden
golden-programs: $(GOLDEN_PROGS)
test-golden: $(GOLDEN_PROGS) $(CLI) $(USRBIO_SO) setup-test
	CISTERN_BUILD=$(abspath $(O)) /usr/bin/python3 -m pytest -q -p no:cacheprovider tests/golden
