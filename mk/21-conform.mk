# make test-conform: the drop-in against its specification. Every program runs on a directory of the build folder and on
# one of /dev/shm, with each backend; `make test-conform T=habits` runs those whose name contains "habits".
CONFORM_SRC   := $(sort $(wildcard tests/conform/test_*.c))
CONFORM_PROGS := $(patsubst tests/conform/%.c,$(O)/tests/conform/%,$(CONFORM_SRC))
CONFORM_RUN    = $(if $(T),$(foreach p,$(CONFORM_PROGS),$(if $(findstring $(T),$(notdir $(p))),$(p))),$(CONFORM_PROGS))
CONFORM_RPATH := -Wl,-rpath,$(abspath $(O)/hf3fs)

# Written from the specification's numbers, without the header; linked into test_layout.
$(O)/tests/conform/test_layout: $(O)/obj/tests/conform/offsets_only.o

$(O)/tests/conform/%: $(O)/obj/tests/conform/%.o $(USRBIO_SO)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $(filter %.o,$^) $(USRBIO_SO) $(CONFORM_RPATH) $(ALL_LDFLAGS) -lcmocka -ldl

$(call objs,$(CONFORM_SRC)): | setup-test

.PHONY: conform-programs test-conform
conform-programs: setup-test $(CONFORM_PROGS)
test-conform: conform-programs
	@tests/conform/run --build $(O) $(CONFORM_RUN)
